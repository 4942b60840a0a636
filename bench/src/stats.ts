/*
 * Medians and their intervals. Nothing here supposes a distribution: times have long right tails.
 */

/** The middle value, or the mean of the two middle ones. NaN for none. */
export function median(values: readonly number[]): number {
  const sorted = ascending(values);
  const middle = sorted.length / 2;
  if (sorted.length === 0) return Number.NaN;
  return Number.isInteger(middle) ? (at(sorted, middle - 1) + at(sorted, middle)) / 2 : at(sorted, Math.floor(middle));
}

/** The smallest value that at least a share `p` of the values do not exceed (nearest rank). NaN for none. */
export function quantile(values: readonly number[], p: number): number {
  const sorted = ascending(values);
  return sorted[Math.max(0, Math.ceil(p * sorted.length) - 1)] ?? Number.NaN;
}

export interface Interval {
  readonly low: number;
  readonly high: number;
  /** The probability that it holds the true median, for independent samples. */
  readonly confidence: number;
}

/**
 * An interval for the median from order statistics: between the k-th smallest and the k-th largest value, with the
 * largest k that keeps the confidence. Under 6 values even the whole range has less than 95%, and it is what is given.
 * Source: David and Nagaraja, "Order Statistics", 2003, section 7.1.
 */
export function medianInterval(values: readonly number[], confidence = 0.95): Interval {
  const sorted = ascending(values);
  const n = sorted.length;
  if (n === 0) return { low: Number.NaN, high: Number.NaN, confidence: 0 };
  let k = 1;
  while (2 * (k + 1) <= n && coverage(n, k + 1) >= confidence) k++;
  return { low: at(sorted, k - 1), high: at(sorted, n - k), confidence: coverage(n, k) };
}

/** The probability that the median lies between the k-th smallest and k-th largest of n: 1 − 2 P(Bin(n, ½) < k). */
function coverage(n: number, k: number): number {
  let tail = 0;
  let term = 0.5 ** n;
  for (let i = 0; i < k; i++) {
    tail += term;
    term *= (n - i) / (i + 1);
  }
  return Math.max(0, 1 - 2 * tail);
}

/** a[i] / b[i] for as many rounds as both have: what disturbed one round disturbed both. */
export function pairedRatios(a: readonly number[], b: readonly number[]): number[] {
  const rounds = Math.min(a.length, b.length);
  return Array.from({ length: rounds }, (_, i) => at(a, i) / at(b, i));
}

/** A median, and the interval that it is known to. */
export interface Estimate extends Interval {
  readonly median: number;
}

export function estimate(values: readonly number[]): Estimate {
  return { median: median(values), ...medianInterval(values) };
}

/** The ratio of two medians measured apart, within the worst of their intervals. */
export function unpairedRatio(a: readonly number[], b: readonly number[]): Estimate {
  const [over, under] = [estimate(a), estimate(b)];
  return {
    median: over.median / under.median,
    low: over.low / under.high,
    high: over.high / under.low,
    confidence: Math.max(0, over.confidence + under.confidence - 1),
  };
}

function ascending(values: readonly number[]): number[] {
  return [...values].sort((a, b) => a - b);
}

function at(values: readonly number[], index: number): number {
  return values[index] as number;
}
