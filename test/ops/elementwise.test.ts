import { describe, expect, test } from 'vitest';
import { dropoutHash, dropoutThreshold } from '../../src/program/dropout.js';
import { Tensor } from '../../src/tensor.js';
import { BACKENDS, FAST_BACKENDS } from '../support/backends.js';
import { Pair, program } from '../support/kernel.js';
import { BATCHES, EXACT, input, runLast, SIDES, withNegativeInfinities, withSpecials } from '../support/operation.js';

/* ReLU and dropout on every backend. */

describe.each([...BACKENDS])('relu and dropout on $name, by hand', ({ create }) => {
  test('relu keeps NaN and +Infinity', async () => {
    const x = new Tensor(Float32Array.of(NaN, Infinity, -Infinity, -1, 0, 2), [1, 6]);
    expect(await runLast(await create(), program({ op: 'relu' }), x)).toEqual([NaN, Infinity, 0, 0, 0, 2]);
  });

  test('dropout drops by the hash of seed, layer and index, and scales the rest', async () => {
    // Layer 2 of the program; eval mode changes nothing.
    const layers = program({ op: 'relu' }, { op: 'relu' }, { op: 'dropout', p: 0.25 });
    const x = new Tensor(new Float32Array(1000).fill(3), [2, 5, 10, 10]);
    const kept = Math.fround(3 * Math.fround(1 / 0.75));
    const expected = [...x.data.keys()].map((i) => (dropoutHash(7, 2, i) / 2 ** 24 < 0.25 ? 0 : kept));
    expect(await runLast(await create(), layers, x, true, 7)).toEqual(expected);
    expect(await runLast(await create(), layers, x, false, 7)).toEqual([...x.data]);
  });

  test('dropout makes NaN of a dropped NaN or infinity; p = 1 gives zeros and p = 0 nothing', async () => {
    const x = new Tensor(Float32Array.of(NaN, Infinity, -Infinity, 4), [1, 4]);
    expect(await runLast(await create(), program({ op: 'dropout', p: 1 }), x, true)).toEqual([NaN, NaN, NaN, 0]);
    expect(await runLast(await create(), program({ op: 'dropout', p: 0 }), x, true)).toEqual([...x.data]);
  });
});

test('dropoutHash gives the numbers that the shared definition gives', () => {
  // Worked out with Python's integers.
  expect(dropoutHash(0, 0, 0)).toBe(0);
  expect([1, 2, 3].map((i) => dropoutHash(0, 0, i))).toEqual([6850960, 13701921, 5501417]);
  expect(dropoutHash(4294967295, 39, 4095)).toBe(5028452);
  expect(dropoutHash(1, 2, 12345678)).toBe(13574873);
  expect([0, 0.5, 1, 2 ** -25].map(dropoutThreshold)).toEqual([0, 2 ** 23, 2 ** 24, 1]);
});

describe.each([...FAST_BACKENDS])('relu and dropout on $name, against the reference', ({ create }) => {
  describe.each([...SIDES])('height %i', (H) => {
    test.each([...SIDES])('width %i, relu', async (W) => {
      using pair = await Pair.compile(await create(), program({ op: 'relu' }));
      for (const [N, C] of BATCHES) {
        const x = input([N, C, H, W]);
        for (const values of [x, withSpecials(x), withNegativeInfinities(x)]) await pair.expectSame(values, EXACT);
      }
    });
  });

  test.each([0, 0.1, 0.5, 0.999, 1])('dropout with p = %f drops the same values', async (p) => {
    const backend = await create();
    using alone = await Pair.compile(backend, program({ op: 'dropout', p }));
    using behind = await Pair.compile(backend, program({ op: 'relu' }, { op: 'dropout', p }));
    for (const shape of [
      [1, 1],
      [3, 31],
      [2, 100],
      [2, 5, 3, 7],
      [1, 17, 15, 14],
    ]) {
      const x = input(shape);
      for (const seed of [0, 1, 2 ** 31, 2 ** 32 - 1]) {
        const options = { ...EXACT, mode: 'train', seed } as const;
        await alone.expectSame(x, options);
        await behind.expectSame(withSpecials(x), options);
      }
    }
  });
});
