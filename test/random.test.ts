import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { VGGNetError } from '../src/errors.js';
import { fillNormal, Mt19937, normals } from '../src/random.js';
import { Tensor } from '../src/tensor.js';
import { fillUniform, normalParts } from '../src/weights/draws.js';

interface Sample {
  size: number;
  first: number[];
  last?: number[];
  sum?: number;
}
type Case = Sample & { kind: 'normal' | 'uniform'; seed: number; mean: number; std: number; from: number; to: number };
interface Golden {
  integers: { seed: number; low24: number[]; count: number };
  distributions: Case[];
  sequence: Omit<Case, keyof Sample | 'kind'> & { calls: (Sample & { kind: 'normal' | 'uniform' })[] };
}
const golden = JSON.parse(readFileSync(new URL('./golden/random.json', import.meta.url), 'utf8')) as Golden;

// PyTorch's vector code rounds logarithm, sine and cosine to float32 within 2 units in the last place of values up
// to 5.8, so 1e-6 of a deviation of 1; the rest is exact.
function expectSample(got: Float32Array, want: Sample, std: number): void {
  expect(got.length).toBe(want.size);
  const tail = got.subarray(got.length - (want.last?.length ?? 0));
  for (const [values, wanted] of [
    [got, want.first],
    [tail, want.last ?? []],
  ] as const) {
    for (const [i, value] of wanted.entries()) {
      const difference = Math.abs((values[i] as number) - value);
      expect(difference, `value ${i}: ${values[i]} and not ${value}`).toBeLessThanOrEqual(
        1e-6 * std + 1e-7 * Math.abs(value),
      );
    }
  }
  if (want.sum !== undefined) {
    const sum = got.reduce((a, b) => a + b, 0);
    expect(Math.abs(sum - want.sum)).toBeLessThanOrEqual(got.length * 2e-7 * std + 1e-7 * Math.abs(want.sum));
  }
}

describe('Mt19937', () => {
  // The reference implementation's 10000th output for its default seed, as the C++ standard states it.
  test('gives the published 10000th number', () => {
    const generator = new Mt19937(5489);
    for (let i = 0; i < 9999; i++) generator.next();
    expect(generator.next()).toBe(4123659995);
  });

  test("gives PyTorch's integers over block ends", () => {
    const { seed, low24, count } = golden.integers;
    const generator = new Mt19937(seed);
    const all = Array.from({ length: count }, () => generator.next() & 0xff_ffff);
    expect(all.slice(-low24.length)).toEqual(low24);
  });

  test.each([0, 1, 623, 624, 625, 1247, 1248, 1249, 5000])('discard(%i) is as good as drawing', (count) => {
    for (const before of [0, 1, 600, 624]) {
      const a = new Mt19937(9);
      const b = new Mt19937(9);
      for (let i = 0; i < before; i++) {
        a.next();
        b.next();
      }
      for (let i = 0; i < count; i++) a.next();
      b.discard(count);
      expect([b.next(), b.next()]).toEqual([a.next(), a.next()]);
    }
  });

  test.each([-1, 0.5, 2 ** 32, Number.NaN, '1' as unknown as number])('refuses the seed %s', (seed) => {
    expect(() => new Mt19937(seed)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    expect(() => normals(new Float32Array(1), seed)).toThrow(VGGNetError);
  });
});

describe('distributions', () => {
  test.each(golden.distributions)('$kind of $size values from seed $seed', (want) => {
    const out = new Float32Array(want.size);
    const generator = new Mt19937(want.seed);
    if (want.kind === 'normal') fillNormal(out, generator, want.mean, want.std);
    else fillUniform(out, generator, want.from, want.to);
    expectSample(out, want, want.kind === 'normal' ? want.std : 0);
  });

  test('a sequence of calls on one generator', () => {
    const { seed, mean, std, from, to, calls } = golden.sequence;
    const generator = new Mt19937(seed);
    for (const want of calls) {
      const out = new Float32Array(want.size);
      if (want.kind === 'normal') fillNormal(out, generator, mean, std);
      else fillUniform(out, generator, from, to);
      expectSample(out, want, want.kind === 'normal' ? std : 0);
    }
  });

  test('normals and Tensor.randn start a generator of their own', () => {
    const want = golden.distributions.find((x) => x.kind === 'normal' && x.seed === 42 && x.size === 100) as Case;
    const out = new Float32Array(100);
    normals(out, 42, { mean: want.mean, std: want.std });
    expectSample(out, want, want.std);
    expect(Tensor.randn([4, 25], { seed: 42 }).data).toEqual(out);
  });

  test('a tensor filled in parts equals one filled at once', () => {
    for (const size of [16, 31, 63, 64, 65, 79, 80, 128, 143, 145, 1000]) {
      const whole = new Float32Array(size);
      fillNormal(whole, new Mt19937(5), 0, 1);
      const parts = new Float32Array(size);
      const generator = new Mt19937(5);
      let offset = 0;
      for (const length of normalParts(size, 64)) {
        expect(length).toBeLessThanOrEqual(64);
        fillNormal(parts.subarray(offset, offset + length), generator, 0, 1);
        offset += length;
      }
      expect(offset).toBe(size);
      expect(parts).toEqual(whole);
    }
  });

  test('moments of a million values', () => {
    const out = new Float32Array(1_000_000);
    normals(out, 1);
    const mean = out.reduce((a, b) => a + b, 0) / out.length;
    const variance = out.reduce((a, b) => a + (b - mean) ** 2, 0) / out.length;
    // Five standard errors.
    expect(Math.abs(mean)).toBeLessThan(5e-3);
    expect(Math.abs(variance - 1)).toBeLessThan(5 * Math.sqrt(2) * 1e-3);
  });

  test('a deviation of 0 gives the mean', () => {
    const out = new Float32Array(32);
    normals(out, 0, { mean: 3, std: 0 });
    expect([...out].every((value) => value === 3)).toBe(true);
  });

  test.each([
    [0, -1],
    [0, Number.NaN],
    [Number.POSITIVE_INFINITY, 1],
  ])('refuses mean %s and deviation %s', (mean, std) => {
    expect(() => fillNormal(new Float32Array(20), new Mt19937(0), mean, std)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });

  test('refuses a range that goes backwards', () => {
    expect(() => fillUniform(new Float32Array(20), new Mt19937(0), 1, 0)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });
});
