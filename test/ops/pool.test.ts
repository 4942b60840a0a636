import { describe, expect, test } from 'vitest';
import { Tensor } from '../../src/tensor.js';
import { BACKENDS, FAST_BACKENDS } from '../support/backends.js';
import type { Tolerance } from '../support/close.js';
import { Pair, program } from '../support/kernel.js';
import { BATCHES, EXACT, input, runLast, SIDES, withNegativeInfinities, withSpecials } from '../support/operation.js';

/* Max-pool and adaptive average pool on every backend. */

/** Means of a few values below √3, rounded a few times. */
const MEAN: Tolerance = { atol: 1e-6, rtol: 1e-6 };

describe.each([...BACKENDS])('pool on $name, by hand', ({ create }) => {
  test('maxPool2d keeps NaN wherever it lies in the window, and starts at -Infinity', async () => {
    const windows = [[NaN, 1, 2, 3], [3, 2, 1, NaN], [1, NaN, Infinity, 2], Array(4).fill(-Infinity), [-4, -3, -2, -5]];
    const x = new Tensor(Float32Array.from(windows.flat()), [1, 5, 2, 2]);
    expect(await runLast(await create(), program({ op: 'maxPool2d' }), x)).toEqual([NaN, NaN, NaN, -Infinity, -2]);
  });

  test('maxPool2d leaves out the odd last row and column', async () => {
    const x = new Tensor(Float32Array.of(1, 2, 9, 4, 3, 9, 9, 9, 9), [1, 1, 3, 3]);
    expect(await runLast(await create(), program({ op: 'maxPool2d' }), x)).toEqual([4]);
  });

  test('adaptiveAvgPool2d averages overlapping cells, also where it grows', async () => {
    const x = new Tensor(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9), [1, 1, 3, 3]);
    const pool = (outputSize: number) => program({ op: 'adaptiveAvgPool2d', outputSize });
    expect(await runLast(await create(), pool(2), x)).toEqual([3, 4, 6, 7]);
    const grown = new Tensor(Float32Array.of(1, 3), [1, 1, 1, 2]);
    expect(await runLast(await create(), pool(3), grown)).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3]);
  });
});

describe.each([...FAST_BACKENDS])('pool on $name, against the reference', ({ create }) => {
  describe.each([...SIDES])('height %i', (H) => {
    test.each(H > 1 ? SIDES.filter((side) => side > 1) : [])('width %i, maxPool2d', async (W) => {
      using pair = await Pair.compile(await create(), program({ op: 'maxPool2d' }));
      for (const [N, C] of BATCHES) {
        const x = input([N, C, H, W]);
        for (const values of [x, withSpecials(x), withNegativeInfinities(x)]) await pair.expectSame(values, EXACT);
      }
    });

    test.each([...SIDES])('width %i, adaptiveAvgPool2d', async (W) => {
      const backend = await create();
      for (const outputSize of [1, 2, 7]) {
        using pair = await Pair.compile(backend, program({ op: 'adaptiveAvgPool2d', outputSize }));
        for (const [N, C] of BATCHES) {
          const x = input([N, C, H, W]);
          for (const values of [x, withSpecials(x)]) await pair.expectSame(values, MEAN);
        }
      }
    });
  });
});
