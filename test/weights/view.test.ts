import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { contiguousStrides, extentOf, gather, isContiguous, type Layout } from '../../src/weights/bytes/view.js';

const storage = { label: 'a storage', byteLength: 0 };

/** The elements one by one. */
function pickAll({ dims, strides }: Layout, first: number): number[] {
  let places = [first];
  for (const [i, size] of dims.entries()) {
    places = places.flatMap((place) => Array.from({ length: size }, (_, k) => place + k * (strides[i] as number)));
  }
  return places;
}

describe('gather', () => {
  test('gives any layout in row-major order, in parts of any size, for every width', () => {
    const dim = fc.tuple(fc.integer({ min: 0, max: 6 }), fc.integer({ min: 0, max: 9 }));
    fc.assert(
      fc.property(
        fc.array(dim, { maxLength: 5 }),
        fc.nat(5),
        fc.nat(5),
        fc.constantFrom(1, 2, 4, 8),
        fc.integer({ min: 1, max: 40 }),
        (list, start, lead, width, most) => {
          const dims = list.map(([size]) => size);
          const strides = list.map(([, stride]) => stride);
          const layout: Layout = { storage, byteOffset: (start + lead) * width, width, dims, strides };
          const { begin, end } = extentOf(layout);
          const raw = new Uint8Array(end - start * width);
          const elements =
            width === 1 ? raw : new { 2: Uint16Array, 4: Uint32Array, 8: Float64Array }[width as 2 | 4 | 8](raw.buffer);
          for (let i = 0; i < elements.length; i++) elements[i] = i;
          const into = new Uint8Array(most * width);
          const out = new (elements.constructor as Uint16ArrayConstructor)(into.buffer);
          const got: number[] = [];
          for (const count of gather(layout, raw, start * width, into)) got.push(...out.subarray(0, count));
          const wrap = width === 1 ? 256 : Number.POSITIVE_INFINITY;
          expect(got).toEqual(pickAll(layout, lead).map((place) => place % wrap));
          expect(begin).toBe((start + lead) * width);
        },
      ),
      { numRuns: 500 },
    );
  });

  test('a layout that lies in order is known as such', () => {
    const layout = (dims: number[], strides: number[]): Layout => ({ storage, byteOffset: 0, width: 4, dims, strides });
    expect(contiguousStrides([2, 3, 4])).toEqual([12, 4, 1]);
    expect(isContiguous(layout([2, 3], [3, 1]))).toBe(true);
    expect(isContiguous(layout([2, 1, 3], [3, 77, 1]))).toBe(true);
    expect(isContiguous(layout([], []))).toBe(true);
    expect(isContiguous(layout([0, 5], [9, 9]))).toBe(true);
    expect(isContiguous(layout([2, 3], [1, 2]))).toBe(false);
    expect(isContiguous(layout([2, 3], [4, 1]))).toBe(false);
    expect(extentOf(layout([2, 3], [4, 1]))).toEqual({ begin: 0, end: 28 });
  });
});
