/*
 * What the three kernels of linear have in common: arguments, the block of columns, and the way out.
 */
import { floatBytes } from './simd';

@unmanaged
export class LinearArgs {
  /** (N, IN), and the output (N, OUT). */
  input: usize;
  output: usize;
  /** (OUT, IN), row-major. */
  weights: usize;
  bias: usize;
  relu: i32;
  batch: i32;
  inFeatures: i32;
  outFeatures: i32;
  /** SCRATCH bytes for each thread, which uses EXPANDED of them, then 4 · batch vectors, and at least 12. */
  scratch: usize;
  /** How the weights are stored: 0 for float32, or a kind of expand.ts. */
  kind: i32;
  /** Of the weights, row by row; unused for float32. */
  scales: usize;
  /** Where linear-int8.ts keeps its inputs' digits; 0: the weights are expanded to float32. */
  digits: usize;
}

/**
 * Columns whose products are summed separately before they are added to the whole. Four rows of weights by this many
 * (32 KiB) are used for the whole batch while they are in L1, and shorter sums are more precise. The order of a sum does
 * not depend on the batch, so an image gives the same bits alone and in a batch.
 */
export const COLUMN_BLOCK: i32 = 2048;

/** Adds the bias to a sum, applies ReLU if requested, and stores it as output `o` of image `n`. */
// @ts-ignore: decorator
@inline
export function storeOutput(args: LinearArgs, n: i32, o: i32, sum: f32): void {
  const value = sum + load<f32>(args.bias + floatBytes(o));
  // Not max(): NaN propagates through ReLU.
  const result: f32 = args.relu && value < 0 ? 0 : value;
  store<f32>(args.output + floatBytes(n * args.outFeatures + o), result);
}

/** Adds `value` to the vector at `address`. */
// @ts-ignore: decorator
@inline
export function addTo(address: usize, value: v128): void {
  v128.store(address, f32x4.add(v128.load(address), value));
}
