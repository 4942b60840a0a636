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
    }
    for (const result of results) expect(result).toEqual(results[0]);
  });
});
