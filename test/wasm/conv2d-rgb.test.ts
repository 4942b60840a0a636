import { Tensor, VGGNet } from 'vggnet';
import { describe, expect, test } from 'vitest';
import { createWasmBackend } from '../../src/wasm/backend.js';
import { generatedTensor } from '../support/generated.js';
import { compileGenerated } from '../support/golden.js';
import { expectAsReference, program, type Unnamed } from '../support/kernel.js';

/*
 * The first layer's own kernel takes images of three channels, rows of at least a tile, and output channels that fill
 * their panels of eight; the general one takes the rest.
 */

const conv = (outChannels: number): Unnamed => ({ op: 'conv2d', inChannels: 3, outChannels });
const relu: Unnamed = { op: 'relu' };
const pool: Unnamed = { op: 'maxPool2d' };
const norm = (channels: number): Unnamed => ({ op: 'batchNorm2d', channels });

/** Sums of 27 products of values below 2 and 1. */
const TOLERANCE = { atol: 5e-6, rtol: 1e-6 };

/** (N, H, W): narrower than a tile of 4 or 6, as wide, one more, and a batch. */
const SHAPES = [
  [1, 1, 1],
  [1, 2, 3],
  [1, 3, 4],
  [2, 1, 5],
  [1, 5, 6],
  [2, 4, 7],
  [3, 2, 11],
  [1, 17, 25],
] as const;

describe.each([true, false])('deterministic: %s', (deterministic) => {
  const backend = createWasmBackend({ deterministic, inline: true, reason: 'a test' });

  test.each(SHAPES)('N %i, %i×%i', async (N, H, W) => {
    const x = generatedTensor('rgb', [N, 3, H, W], 'input');
    for (const channels of [8, 12, 64]) {
      await expectAsReference(backend, program(conv(channels)), x, TOLERANCE);
      // Batch norm multiplies an error by up to 1.5 / √0.5.
      const layers = program(conv(channels), norm(channels), relu);
      await expectAsReference(backend, layers, x, { atol: 1.1e-5, rtol: 2.2e-6 });
    }
  });

  test.each([
    [1, 2, 6],
    [2, 3, 7],
    [1, 5, 8],
    [3, 4, 11],
    [1, 9, 12],
    [2, 7, 13],
    [1, 18, 25],
  ])('with the max-pool after it: N %i, %i×%i', async (N, H, W) => {
    const x = generatedTensor('rgb', [N, 3, H, W], 'input');
    for (const channels of [8, 64]) {
      await expectAsReference(backend, program(conv(channels), pool), x, TOLERANCE);
      const layers = program(conv(channels), norm(channels), relu, pool);
      await expectAsReference(backend, layers, x, { atol: 1.1e-5, rtol: 2.2e-6 });
      // The same bits as a convolution that keeps its output, and a pool.
      const executable = await compileGenerated(backend, program(conv(channels), relu, pool));
      const run = (...outputs: string[]): Promise<Tensor[]> => executable.run(x, { outputs, mode: 'eval', seed: 0 });
      const [[fused], [, apart]] = [await run('maxPool2d2'), await run('relu1', 'maxPool2d2')];
      expect(fused?.shape).toEqual([N, channels, Math.floor(H / 2), Math.floor(W / 2)]);
      expect(fused?.data.every((value, i) => value === apart?.data[i])).toBe(true);
      executable.dispose();
    }
  });

  test('the pool is part of the kernel where no layer before it is asked for', async () => {
    const executable = await compileGenerated(backend, program(conv(16), relu, pool));
    const x = generatedTensor('rgb', [1, 3, 8, 8], 'input');
    const calls = async (...outputs: string[]): Promise<string[]> => {
      const times = await executable.profile(x, { outputs, mode: 'eval', seed: 0 });
      return times.map(({ name }) => name).filter((name) => !name.startsWith('to '));
    };
    expect(await calls('maxPool2d2')).toEqual(['conv2d0+maxPool2d2']);
    expect(await calls('relu1', 'maxPool2d2')).toEqual(['conv2d0+relu1', 'maxPool2d2']);
    executable.dispose();
  });

  test.each([
    ['NaN', [NaN]],
    ['infinities', [Infinity, -Infinity]],
    ['all three', [Infinity, NaN, -Infinity, 3e38]],
  ])('%s go through the pool as in the reference', async (_, specials) => {
    const x = generatedTensor('rgb', [2, 3, 9, 14], 'input');
    for (const [i, value] of specials.entries()) x.data[Math.floor(((i + 0.4) / specials.length) * x.size)] = value;
    await expectAsReference(backend, program(conv(16), pool), x, { atol: 5e-6, rtol: 1e-5 });
    await expectAsReference(backend, program(conv(16), relu, pool), x, { atol: 5e-6, rtol: 1e-5 });
  });

  test('NaN and infinities come out where the reference has them', async () => {
    const x = generatedTensor('rgb', [1, 3, 9, 13], 'input');
    for (const [i, value] of [Number.NaN, Infinity, -Infinity, 3e38].entries()) x.data[70 * i + 20] = value;
    await expectAsReference(backend, program(conv(16), relu), x, { atol: 5e-6, rtol: 1e-5 });
  });

  test('it gives the same bits as the general kernel', async () => {
    const x = generatedTensor('rgb', [2, 3, 10, 21], 'input');
    const run = async (channels: number): Promise<Tensor> => {
      const executable = await compileGenerated(backend, program(conv(channels), relu));
      const [output] = await executable.run(x, { outputs: ['relu1'], mode: 'eval', seed: 0 });
      executable.dispose();
      return output as Tensor;
    };
    // A filter's values do not depend on how many there are.
    const [own, general] = [await run(16), await run(17)];
    for (let n = 0; n < 2; n++) {
      const image = own.data.subarray(n * 16 * 210, (n + 1) * 16 * 210);
      const first = general.data.subarray(n * 17 * 210, (n * 17 + 16) * 210);
      expect(image.every((value, i) => value === first[i])).toBe(true);
    }
  });

  test('and on any number of threads', async () => {
    const x = Tensor.randn([2, 3, 6, 19], { seed: 3 });
    const results: Float32Array[] = [];
    const pooled: Float32Array[] = [];
    for (const threads of [1, 2, 3, 16]) {
      const options = {
        numClasses: 5,
        hiddenFeatures: 8,
        poolSize: 1,
        threads,
        deterministic,
        device: 'wasm',
      } as const;
      using model = await VGGNet.create([24, 'M'], options);
      results.push((await model.features(x, ['relu1_1'])).relu1_1.data);
      pooled.push((await model.features(x, ['pool1'])).pool1.data);
    }
    for (const result of results) expect(result).toEqual(results[0]);
    for (const result of pooled) expect(result).toEqual(pooled[0]);
  });
});
