import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { toFloat16, toFloat32 } from '../../src/weights/dtype.js';

/** IEEE 754 binary16 from its definition. */
function halfValue(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return fraction ? Number.NaN : sign * Number.POSITIVE_INFINITY;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

const allHalves = Uint16Array.from({ length: 65536 }, (_, i) => i);
const bytesOf = (view: { buffer: ArrayBuffer }): Uint8Array<ArrayBuffer> => new Uint8Array(view.buffer);

describe('toFloat32', () => {
  test('every F16', () => {
    const got = toFloat32(bytesOf(allHalves), 'F16');
    for (let bits = 0; bits < 65536; bits++) {
      if (!Object.is(got[bits], halfValue(bits))) throw new Error(`${bits}: ${got[bits]}, not ${halfValue(bits)}`);
    }
    expect(got.length).toBe(65536);
  });

  test('every BF16 is the upper half of a float32', () => {
    const got = new Uint32Array(toFloat32(bytesOf(allHalves), 'BF16').buffer);
    for (let bits = 0; bits < 65536; bits++) {
      if (got[bits] !== bits * 65536) throw new Error(`${bits}: ${got[bits]}`);
    }
    expect(got.length).toBe(65536);
  });

  test('F64 is rounded, F32 is kept', () => {
    const values = [0.1, -0, 1e300, -1e-50, 1 + 2 ** -24, 1 + 3 * 2 ** -24, Number.NaN, Number.NEGATIVE_INFINITY];
    const want = [Math.fround(0.1), -0, Number.POSITIVE_INFINITY, -0, 1, 1 + 2 ** -22, Number.NaN, -Infinity];
    expect([...toFloat32(bytesOf(new Float64Array(values)), 'F64')]).toEqual(want);
    const floats = new Float32Array(values);
    expect(toFloat32(bytesOf(floats), 'F32')).toEqual(floats);
  });
});

describe('toFloat16', () => {
  test('every F16 comes back', () => {
    const back = toFloat16(toFloat32(bytesOf(allHalves), 'F16'));
    for (let bits = 0; bits < 65536; bits++) {
      const nan = (bits & 0x7c00) === 0x7c00 && (bits & 0x3ff) !== 0;
      // A signalling NaN may become a quiet one.
      if (nan ? !Number.isNaN(halfValue(back[bits] as number)) : back[bits] !== bits)
        throw new Error(`${bits}: ${back[bits]}`);
    }
    expect(back.length).toBe(65536);
  });

  test('a float32 goes to the nearest F16, ties to even', () => {
    const check = (value: number): void => {
      const bits = toFloat16(new Float32Array([value]))[0] as number;
      if (Math.abs(value) >= 65520) {
        expect(halfValue(bits)).toBe(Math.sign(value) * Number.POSITIVE_INFINITY);
        return;
      }
      const error = Math.abs(halfValue(bits) - value);
      for (const near of [bits - 1, bits + 1]) {
        if ((near & 0x7fff) >= 0x7c00 || (near & 0x8000) !== (bits & 0x8000)) continue;
        const other = Math.abs(halfValue(near) - value);
        expect(error < other || (error === other && bits % 2 === 0), `${value} became ${halfValue(bits)}`).toBe(true);
      }
    };
    for (const value of [
      0,
      65504,
      65519.99,
      65520,
      65536,
      2 ** -24,
      2 ** -25,
      3 * 2 ** -25,
      2 ** -26,
      2 ** -14,
      1e-8,
    ]) {
      check(Math.fround(value));
      check(Math.fround(-value));
    }
    for (let i = 0; i < 2000; i++) check(Math.fround((i + 0.5) * 2 ** -24));
    fc.assert(fc.property(fc.float({ noNaN: true }), check), { numRuns: 3000 });
    fc.assert(fc.property(fc.float({ noNaN: true, min: -2, max: 2 }), check), { numRuns: 3000 });
    expect(halfValue(toFloat16(new Float32Array([Number.NaN]))[0] as number)).toBeNaN();
  });
});
