import { describe, expect, test } from 'vitest';
import { Tensor } from '../../src/tensor.js';
import { BACKENDS, FAST_BACKENDS } from '../support/backends.js';
import type { Tolerance } from '../support/close.js';
import { Pair, program } from '../support/kernel.js';
import { input, runLast, withNegativeInfinities, withSpecials } from '../support/operation.js';

/* Softmax on every backend. */

/** exp of −3.5 to 0 by a short polynomial: relative errors of a few 2^-24. */
const SOFTMAX: Tolerance = { atol: 1e-7, rtol: 1e-5 };

describe.each([...BACKENDS])('softmax on $name, by hand', ({ create }) => {
  test('softmax of large logits is finite, and NaN makes its own row NaN', async () => {
    const x = new Tensor(Float32Array.of(1000, 1000, NaN, 0, -Infinity, 5), [3, 2]);
    expect(await runLast(await create(), program({ op: 'softmax' }), x)).toEqual([0.5, 0.5, NaN, NaN, 0, 1]);
  });
});

describe.each([...FAST_BACKENDS])('softmax on $name, against the reference', ({ create }) => {
  test.each([1, 3, 7, 31, 64, 100, 1000])('softmax of %i values', async (F) => {
    using pair = await Pair.compile(await create(), program({ op: 'softmax' }));
    for (const N of [1, 2, 3]) {
      const x = input([N, F]);
      for (const values of [x, withSpecials(x), withNegativeInfinities(x)]) await pair.expectSame(values, SOFTMAX);
    }
  });
});
