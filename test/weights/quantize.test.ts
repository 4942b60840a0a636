import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { quantize, roundTo, scaleFor } from '../../src/weights/quantize/math.js';
import { packWeight, scalesOf } from '../../src/weights/quantize/write.js';

const PRECISIONS = ['int8', 'int4'] as const;
const LARGEST = { int8: 127, int4: 7 };

/** float32 of all sizes, subnormals too. */
const values = fc.array(fc.float({ noNaN: true, min: Math.fround(-3e38), max: Math.fround(3e38) }), {
  minLength: 1,
  maxLength: 40,
});

describe.each(PRECISIONS)('%s', (precision) => {
  test('rounds to a value that float32 has, no further than half a step, and never twice', () => {
    fc.assert(
      fc.property(values, (list) => {
        const x = Float32Array.from(list);
        const scale = scaleFor(x, precision);
        const once = x.slice();
        roundTo(once, scale);
        for (const [i, value] of once.entries()) {
          const q = scale === 0 ? 0 : value / scale;
          expect(Number.isInteger(q) && Math.abs(q) <= LARGEST[precision]).toBe(true);
          expect(Math.abs(value - (x[i] as number))).toBeLessThanOrEqual(scale === 0 ? 1e-35 : scale / 2);
        }
        const twice = once.slice();
        expect(scaleFor(once, precision)).toBe(scale);
        roundTo(twice, scale);
        expect(twice).toEqual(once);
      }),
      { numRuns: 2000 },
    );
  });

  test('has the largest value as the largest whole number', () => {
    const x = Float32Array.of(0.1, -0.9, 0.3);
    const out = new Int8Array(3);
    quantize(x, scaleFor(x, precision), out);
    expect(out[1]).toBe(-LARGEST[precision]);
  });

  test('rounds ties to even, and zeros to zeros', () => {
    const scale = 1 / 8;
    const out = new Int8Array(4);
    quantize(Float32Array.of(0.5 * scale, 1.5 * scale, -2.5 * scale, 0), scale, out);
    expect([...out]).toEqual([0, 2, -2, 0]);
    expect(scaleFor(new Float32Array(4), precision)).toBe(0);
  });

  test('refuses what would be rounded past float32', () => {
    const most = Float32Array.of(3.4028234663852886e38);
    expect(() => scaleFor(most, precision)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])('refuses %s', (odd) => {
    expect(() => scaleFor(Float32Array.of(1, odd, 2), precision)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(`can't be ${precision}`) }),
    );
  });
});

test('a weight is packed by rows, in int4 two columns a byte and a scale for each 32', () => {
  const row = Float32Array.from({ length: 35 }, (_, i) => (i < 32 ? (i % 8) - 0 : i - 34));
  const weight = Float32Array.of(...row, ...row.map((x) => -2 * x));
  expect([...scalesOf(weight, [2, 35], 'int4')]).toEqual([1, 0.287109375, 2, 0.57421875]);
  const packed = packWeight(weight, [2, 35], 'int4') as Uint8Array;
  expect(packed).toHaveLength(2 * 18);
  // Columns 0 and 1 are 0 and 1; the last column of the second group has no neighbour.
  expect(packed[0]).toBe(8 | (9 << 4));
  expect(packed[17]).toBe(8 | (8 << 4));
  expect([...packWeight(Float32Array.of(1, -0.5, 0, 2), [2, 2], 'int8')]).toEqual([127, -63, 0, 127]);
  expect([...scalesOf(Float32Array.of(1, -0.5, 0, 2), [2, 2], 'int8')]).toEqual([
    expect.closeTo(1 / 127, 6),
    expect.closeTo(2 / 127, 6),
  ]);
});
