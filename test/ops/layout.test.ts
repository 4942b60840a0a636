import { describe, test } from 'vitest';
import { FAST_BACKENDS } from '../support/backends.js';
import { Pair, program } from '../support/kernel.js';
import { BATCHES, EXACT, input, SIDES, withNegativeInfinities, withSpecials } from '../support/operation.js';

/* Flatten on every backend: the order of the values, whatever layout a backend computes in. */

describe.each([...FAST_BACKENDS])('flatten on $name, against the reference', ({ create }) => {
  describe.each([...SIDES])('height %i', (H) => {
    test.each([...SIDES])('width %i', async (W) => {
      using pair = await Pair.compile(await create(), program({ op: 'flatten' }));
      for (const [N, C] of BATCHES) {
        const x = input([N, C, H, W]);
        for (const values of [x, withSpecials(x), withNegativeInfinities(x)]) await pair.expectSame(values, EXACT);
      }
    });
  });
});
