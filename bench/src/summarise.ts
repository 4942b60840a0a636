import type { Row } from './record.js';
import { median, quantile } from './stats.js';

/** What is derived from samples. GFLOP/s is of the median. */
export function summarise(
  samples: readonly number[],
  macs: number,
): Pick<Row, 'samples' | 'median' | 'min' | 'p90' | 'macs' | 'gflops'> {
  const kept = samples.map(round);
  const middle = median(kept);
  return {
    samples: kept,
    median: round(middle),
    min: kept.length > 0 ? Math.min(...kept) : Number.NaN,
    p90: quantile(kept, 0.9),
    macs,
    gflops: gflopsOf(macs, middle),
  };
}

export function gflopsOf(macs: number, ms: number): number {
  return round((2 * macs) / ms / 1e6);
}

/** To five digits, which is more than any timer here is good for. */
function round(value: number): number {
  return Number(value.toPrecision(5));
}
