import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { estimate, median, medianInterval, pairedRatios, quantile, unpairedRatio } from '../../bench/src/stats.js';

const samples = fc.array(fc.double({ min: 0.1, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 40 });

describe('median and quantiles', () => {
  test('of odd and even numbers of values, in any order', () => {
    expect(median([3, 1, 2])).toBe(2);
    expect(median([4, 1, 3, 2])).toBe(2.5);
    expect(median([])).toBeNaN();
  });

  test('p90 is the nearest rank', () => {
    const ten = [10, 1, 9, 2, 8, 3, 7, 4, 6, 5];
    expect(quantile(ten, 0.9)).toBe(9);
    expect(quantile([5], 0.9)).toBe(5);
    expect(quantile([1, 2], 0.9)).toBe(2);
    expect(quantile([], 0.9)).toBeNaN();
  });

  test('the input is left as it is', () => {
    const values = [3, 1, 2];
    median(values);
    quantile(values, 0.5);
    medianInterval(values);
    expect(values).toEqual([3, 1, 2]);
  });
});

describe('the interval of a median', () => {
  test.each([
    // n, k, 1 − 2 P(Bin(n, ½) < k), from a table of the binomial distribution
    [5, 1, 0.9375],
    [6, 1, 0.96875],
    [9, 2, 0.9609375],
    [10, 2, 0.978515625],
    [12, 3, 0.96142578125],
    [20, 6, 0.9586105346679688],
  ])('of %i values lies between the %i-th from either end', (n, k, confidence) => {
    const values = Array.from({ length: n }, (_, i) => n - i);
    const interval = medianInterval(values);
    expect(interval.low).toBe(k);
    expect(interval.high).toBe(n + 1 - k);
    expect(interval.confidence).toBeCloseTo(confidence, 12);
  });

  test('of one value is that value, and says that it is sure of nothing', () => {
    expect(medianInterval([7])).toEqual({ low: 7, high: 7, confidence: 0 });
  });

  test('holds the true median as often as it says', () => {
    // Exponential times by a linear congruential generator; their median is ln 2.
    let state = 12345;
    const uniform = (): number => {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      return (state + 0.5) / 2 ** 32;
    };
    const trials = 4000;
    let held = 0;
    for (let i = 0; i < trials; i++) {
      const { low, high } = medianInterval(Array.from({ length: 10 }, () => -Math.log(uniform())));
      if (low <= Math.LN2 && Math.LN2 <= high) held++;
    }
    // 0.9785 by theory; four standard deviations are 0.009.
    expect(held / trials).toBeGreaterThan(0.969);
    expect(held / trials).toBeLessThan(0.988);
  });

  test('holds the median of the samples themselves', () => {
    fc.assert(
      fc.property(samples, (values) => {
        const { median: middle, low, high } = estimate(values);
        return low <= middle && middle <= high;
      }),
    );
  });
});

describe('ratios', () => {
  test('are taken round by round, over the rounds that both have', () => {
    expect(pairedRatios([2, 4, 9], [1, 2])).toEqual([2, 2]);
  });

  test('a disturbance of both in one round leaves paired ratios as they are', () => {
    const a = [10, 10, 50, 10, 10, 10, 10];
    const b = [20, 20, 100, 20, 20, 20, 20];
    expect(estimate(pairedRatios(a, b))).toMatchObject({ median: 0.5, low: 0.5, high: 0.5 });
  });

  test('of medians measured apart are as wide as both intervals allow', () => {
    const ratio = unpairedRatio([9, 10, 10, 10, 10, 12], [4, 5, 5, 5, 5, 6]);
    expect(ratio.median).toBe(2);
    expect(ratio.low).toBeCloseTo(9 / 6, 12);
    expect(ratio.high).toBeCloseTo(12 / 4, 12);
    expect(ratio.confidence).toBeCloseTo(2 * 0.96875 - 1, 12);
  });
});
