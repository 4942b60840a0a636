/*
 * The gradients of elementwise.ts, on plain runs of values: whole buffers, with the borders and spare channels that they
 * have, where outputs are zero. Dropout's is dropout itself.
 */
import { V } from './simd';
import { partition } from './threads';

@unmanaged
export class ElementwiseBackwardArgs {
  /** The gradient, in place. */
  gradient: usize;
  /** The output of the ReLU, or what is added. */
  values: usize;
  /** Of values, rounded up to a whole vector. */
  count: i32;
  /** Of the ReLU: only what is positive passes. */
  guided: i32;
}

/** dx = 0 where y ≤ 0, and dy elsewhere, also where y is NaN; nothing is multiplied, so a zero ends a NaN. */
export function reluInputGradient(args: ElementwiseBackwardArgs, thread: i32, threads: i32): void {
  const first = partition(args.count, 16, thread, threads),
    last = partition(args.count, 16, thread + 1, threads);
  const end = args.gradient + ((<usize>last) << 2),
    zero = f32x4.splat(0);
  let y = args.values + ((<usize>first) << 2);
  for (let p = args.gradient + ((<usize>first) << 2); p < end; p += V) {
    let value = v128.andnot(v128.load(p), f32x4.le(v128.load(y), zero));
    if (args.guided) value = v128.andnot(value, f32x4.le(value, zero));
    v128.store(p, value);
    y += V;
  }
}

/** Adds another gradient of the same value. */
export function addGradient(args: ElementwiseBackwardArgs, thread: i32, threads: i32): void {
  const first = partition(args.count, 16, thread, threads),
    last = partition(args.count, 16, thread + 1, threads);
  const end = args.gradient + ((<usize>last) << 2);
  let other = args.values + ((<usize>first) << 2);
  for (let p = args.gradient + ((<usize>first) << 2); p < end; p += V) {
    v128.store(p, f32x4.add(v128.load(p), v128.load(other)));
    other += V;
  }
}

/** dx = y · (dy − Σ dy · y) for each of `rows` rows of `count` values, in place. */
export function softmaxInputGradient(gradient: usize, output: usize, rows: i32, count: i32): void {
  for (let row = 0; row < rows; row++) {
    const dy = gradient + ((<usize>(row * count)) << 2),
      y = output + ((<usize>(row * count)) << 2);
    const bytes = (<usize>count) << 2;
    let sum: f64 = 0;
    for (let i: usize = 0; i < bytes; i += 4) sum += <f64>load<f32>(dy + i) * <f64>load<f32>(y + i);
    for (let i: usize = 0; i < bytes; i += 4) {
      store<f32>(dy + i, <f32>(<f64>load<f32>(y + i) * (<f64>load<f32>(dy + i) - sum)));
    }
  }
}
