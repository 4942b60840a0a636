import { describe, expect, test } from 'vitest';
import type { Tensor } from '../../src/tensor.js';
import { chooseAlgorithm, mayUseWinograd } from '../../src/wasm/convolution.js';
import { FAST_BACKENDS } from '../support/backends.js';
import type { Tolerance } from '../support/close.js';
import { generatedTensor } from '../support/generated.js';
import { expectAsReference, program, type Unnamed } from '../support/kernel.js';

/*
 * Convolutions that run by Winograd's method: not the first layer, and channels enough to make it the cheaper one.
 */

/**
 * Sums of K products as in test/kernels.test.ts; F(4×4, 3×3) with the points of assembly/winograd.ts has an error of
 * about 1.7e-6 of the output's deviation in the mean and ten times that at the worst of some thousand values.
 */
const WINOGRAD: Tolerance = { atol: 3e-5, rtol: 1e-5 };

/** (N, C, OC, H, W): a tile of 4 ± 1, sizes that no tile divides, panels that are not full, more than one block. */
const SHAPES: readonly [number, number, number, number, number][] = [
  [1, 32, 32, 4, 4],
  [1, 32, 32, 5, 3],
  [2, 24, 32, 7, 9],
  [1, 33, 31, 6, 6],
  [3, 40, 33, 5, 13],
  [1, 64, 65, 11, 4],
  [1, 32, 40, 45, 43],
  [2, 64, 64, 14, 15],
  [1, 520, 48, 8, 8],
];

const conv = (inChannels: number, outChannels: number): Unnamed => ({ op: 'conv2d', inChannels, outChannels });
const relu: Unnamed = { op: 'relu' };
const pool: Unnamed = { op: 'maxPool2d' };
const norm = (channels: number): Unnamed => ({ op: 'batchNorm2d', channels });

/** Both signs, so that the relu before the convolution is not the identity. */
const input = (shape: readonly number[]): Tensor => generatedTensor(`winograd ${shape.join('x')}`, [...shape], 'input');

describe.each([...FAST_BACKENDS])('Winograd on $name', ({ create }) => {
  test.each([...SHAPES])('N %i, C %i, OC %i, %i×%i', async (N, C, OC, H, W) => {
    const backend = await create();
    const x = input([N, C, H, W]);
    await expectAsReference(backend, program(relu, conv(C, OC)), x, WINOGRAD);
    await expectAsReference(backend, program(relu, conv(C, OC), relu), x, WINOGRAD);
    if (H > 1 && W > 1) {
      const chain = program(relu, conv(C, OC), norm(OC), relu, pool);
      // Batch norm multiplies an error by up to 1.5 / √0.5.
      const scaled = { atol: 2.2 * WINOGRAD.atol, rtol: 2.2 * WINOGRAD.rtol };
      await expectAsReference(backend, chain, x, scaled);
      await expectAsReference(backend, chain, x, { ...scaled, outputs: ['maxPool2d4', 'relu3'] });
      await expectAsReference(backend, program(relu, conv(C, OC), pool, conv(OC, C)), x, { atol: 1e-4, rtol: 1e-4 });
    }
  });

  test.each([
    ['NaN', [NaN]],
    ['infinities', [Infinity, -Infinity]],
    ['all three', [Infinity, NaN, -Infinity]],
    ['values that overflow in the transform only', [3e38, -3e38, 3e38]],
  ])('%s come out where a direct convolution has them', async (_, specials) => {
    const backend = await create();
    const [C, OC, H, W] = [32, 40, 13, 14];
    const x = input([2, C, H, W]);
    for (const [i, value] of specials.entries()) x.data[Math.floor(((i + 0.4) / specials.length) * x.size)] = value;
    for (const layers of [program(relu, conv(C, OC)), program(relu, conv(C, OC), norm(OC), relu, pool)]) {
      // Where 3e38 takes part the sums are as large, and as exact as float32 is there.
      await expectAsReference(backend, layers, x, { atol: 2.2 * WINOGRAD.atol, rtol: 1e-4 });
    }
  });
});

test('the cost model takes the method for VGG16, and not where it loses', () => {
  const layer = (inChannels: number, outChannels: number) => ({
    op: 'conv2d' as const,
    name: 'conv',
    path: 'conv',
    inChannels,
    outChannels,
  });
  expect(mayUseWinograd(layer(3, 64), 0)).toBe(false);
  for (const [channels, size] of [
    [64, 224],
    [128, 112],
    [256, 56],
    [512, 28],
    [512, 14],
  ] as const) {
    expect(chooseAlgorithm(layer(channels, channels), 1, size, size), `${channels} at ${size}`).toBe('winograd');
  }
  expect(chooseAlgorithm(layer(8, 8), 1, 224, 224)).toBe('direct');
  expect(chooseAlgorithm(layer(512, 512), 1, 2, 2)).toBe('direct');
});
