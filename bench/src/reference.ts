import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { PrecisionName } from './job.js';

/** What logits are held against. */
export interface Reference {
  /** In a few words, for the row. */
  readonly name: string;
  readonly images: readonly { readonly indices: readonly number[]; readonly values: readonly number[] }[];
}

export interface Agreement {
  /** The largest |logit − reference|. */
  readonly error: number;
  /**
   * True if a logit is off by more than the project allows: 1e-4 + 1e-4 · |reference|; in low precision, by more than a share
   * of the largest, since only something broken is further off.
   */
  readonly wrong: boolean;
}

interface GoldenCase {
  readonly model: string;
  readonly by?: string;
  readonly mode?: string;
  readonly shape: readonly number[];
  readonly outputs: { readonly fc8?: { readonly images: readonly { readonly values: readonly number[] }[] } };
}

/** PyTorch's logits as test/golden/ has them, of the images of a batch that it covers; undefined if it has none. */
export function goldenReference(repository: string, model: string, size: number): Reference | undefined {
  const path = join(repository, 'test/golden', `${model}.json`);
  if (!existsSync(path)) return undefined;
  const cases = JSON.parse(readFileSync(path, 'utf8')) as GoldenCase[];
  const found = cases.find(
    ({ by, mode, shape, outputs }) => !by && !mode && shape[2] === size && shape[3] === size && outputs.fc8,
  );
  const images = found?.outputs.fc8?.images;
  if (!images) return undefined;
  return {
    name: `PyTorch (test/golden/${model}.json)`,
    images: images.map(({ values }) => ({ indices: scattered(1000, values.length), values })),
  };
}

/** All logits of one image, as the library's reference backend has them. */
export function wholeReference(values: readonly number[]): Reference {
  return { name: "loops with float64 sums (device 'reference')", images: [{ indices: [...values.keys()], values }] };
}

/** The indices whose values the golden files keep: spread by the golden ratio. */
function scattered(size: number, count: number): number[] {
  return Array.from({ length: count }, (_, k) => Math.floor((((k * 0x9e3779b1) % 2 ** 32) / 2 ** 32) * size));
}

const SHARES: Readonly<Record<PrecisionName, number>> = { fp16: 0.01, int8: 0.1, 'int8-int4': 0.4 };

/** How far logits (batch, classes) are from the reference. NaN, or the wrong number of them, is infinitely far. */
export function compareLogits(
  logits: Float32Array,
  batch: number,
  reference: Reference,
  precision?: PrecisionName,
): Agreement {
  const classes = logits.length / batch;
  let error = Number.isInteger(classes) ? 0 : Number.POSITIVE_INFINITY;
  let wrong = error > 0;
  for (const [n, { indices, values }] of reference.images.slice(0, batch).entries()) {
    const largest = Math.max(...values.map(Math.abs));
    for (const [i, index] of indices.entries()) {
      const expected = values[i] as number;
      const off = Math.abs((logits[n * classes + index] ?? Number.NaN) - expected);
      error = Math.max(error, Number.isNaN(off) ? Number.POSITIVE_INFINITY : off);
      if (!(off <= (precision ? SHARES[precision] * largest : 1e-4 + 1e-4 * Math.abs(expected)))) wrong = true;
    }
  }
  return { error, wrong };
}
