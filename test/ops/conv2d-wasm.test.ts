import { describe, expect, test } from 'vitest';
import type { Backend } from '../../src/backend.js';
import type { Tensor } from '../../src/tensor.js';
import { createWasmBackend } from '../../src/wasm/backend.js';
import { type Algorithm, cheapestAlgorithm, TILE_SIZES, type TileSize } from '../../src/wasm/plan/algorithm.js';
import type { Tolerance } from '../support/close.js';
import { generatedParameters, generatedTensor } from '../support/generated.js';
import { expectAsReference, program, type Unnamed } from '../support/kernel.js';

/*
 * Convolutions by Winograd's method, each size of tiles forced wherever a layer can have it.
 */

/**
 * Sums of K products as in test/support/operation.ts, and the error of the transforms: docs/measurements.md has 2e-6 of the
 * output's deviation for F(4×4) and 5e-6 for F(6×6) in the mean, and ten times that at the worst of a layer's values.
 */
const TOLERANCE: Record<TileSize, Tolerance> = { 4: { atol: 3e-5, rtol: 1e-5 }, 6: { atol: 1e-4, rtol: 3e-5 } };

/** (N, C, OC, H, W): tiles of 4 and 6 ± 1, sizes that no tile divides, panels not full, more than one block. */
const SHAPES: readonly [number, number, number, number, number][] = [
  [1, 8, 8, 1, 1],
  [1, 3, 5, 2, 1],
  [1, 32, 32, 4, 4],
  [1, 32, 32, 5, 3],
  [1, 16, 24, 6, 7],
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

const CASES = TILE_SIZES.flatMap((size) => [true, false].map((deterministic) => ({ size, deterministic })));

describe.each(CASES)(
  'conv2d on wasm, F($size×$size, 3×3), deterministic: $deterministic',
  ({ size, deterministic }) => {
    const create = (): Backend => createWasmBackend({ deterministic, inline: true, winograd: size, reason: 'a test' });
    const tolerance = TOLERANCE[size];
    // Batch norm multiplies an error by up to 1.5 / √0.5.
    const scaled = { atol: 2.2 * tolerance.atol, rtol: 2.2 * tolerance.rtol };

    test.each([...SHAPES])('N %i, C %i, OC %i, %i×%i', async (N, C, OC, H, W) => {
      const backend = create();
      const x = input([N, C, H, W]);
      await expectAsReference(backend, program(relu, conv(C, OC)), x, tolerance);
      await expectAsReference(backend, program(relu, conv(C, OC), relu), x, tolerance);
      if (H > 1 && W > 1) {
        const chain = program(relu, conv(C, OC), norm(OC), relu, pool);
        await expectAsReference(backend, chain, x, scaled);
        await expectAsReference(backend, chain, x, { ...scaled, outputs: ['maxPool2d4', 'relu3'] });
        const twice = program(relu, conv(C, OC), pool, conv(OC, C));
        await expectAsReference(backend, twice, x, { atol: 3 * tolerance.atol, rtol: 3 * tolerance.atol });
      }
    });

    test('it is the method that runs', async () => {
      const layers = program(relu, conv(32, 32), pool);
      const executable = await create().compile({ layers }, generatedParameters(layers));
      const times = await executable.profile(input([1, 32, 9, 9]), { outputs: ['maxPool2d2'], mode: 'eval', seed: 0 });
      executable.dispose();
      expect(times.map(({ algorithm }) => algorithm).filter(Boolean)).toEqual([`winograd${size}`]);
    });

    test.each([
      ['NaN', [NaN]],
      ['infinities', [Infinity, -Infinity]],
      ['all three', [Infinity, NaN, -Infinity]],
      ['values that overflow in the transform only', [3e38, -3e38, 3e38]],
    ])('%s come out where a direct convolution has them', async (_, specials) => {
      const backend = create();
      const [C, OC, H, W] = [32, 40, 13, 14];
      const x = input([2, C, H, W]);
      for (const [i, value] of specials.entries()) x.data[Math.floor(((i + 0.4) / specials.length) * x.size)] = value;
      for (const layers of [program(relu, conv(C, OC)), program(relu, conv(C, OC), norm(OC), relu, pool)]) {
        // Where 3e38 takes part the sums are as large, and as exact as float32 is there.
        await expectAsReference(backend, layers, x, { atol: scaled.atol, rtol: 1e-4 });
      }
    });
  },
);

describe('the cost model on wasm', () => {
  const algorithm = (inChannels: number, outChannels: number, size: number): Algorithm => {
    const layer = { op: 'conv2d' as const, name: 'conv', path: 'conv', inChannels, outChannels };
    return cheapestAlgorithm(layer, ['direct', ...TILE_SIZES], size, size);
  };

  test.each([
    [64, 64, 224, 6],
    [64, 128, 112, 6],
    [128, 128, 112, 6],
    [128, 256, 56, 6],
    [256, 256, 56, 6],
    [256, 512, 28, 4],
    [512, 512, 28, 4],
    [512, 512, 14, 4],
    [8, 8, 112, 6],
    [32, 32, 56, 6],
    [512, 512, 7, 4],
    [128, 128, 4, 'direct'],
  ] as const)(
    '%i to %i channels at %i: the algorithm that was measured to be the fastest',
    (inChannels, outChannels, size, fastest) => {
      expect(algorithm(inChannels, outChannels, size)).toBe(fastest);
    },
  );

  test('takes the direct product where the larger weights cost more', () => {
    expect(algorithm(512, 512, 2)).toBe('direct');
  });
});
