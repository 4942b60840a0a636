/*
 * The gradients of linear.ts, for row-major weights (OUT, IN).
 *
 *   dx[n, i] = Σ o  dy[n, o] · weight[o, i]          dweight[o, i] += Σ n  dy[n, o] · in[n, i]
 *
 * Both read or write the weights, which are larger than anything else, once for the whole batch.
 */
import { V, madd } from './simd';
import { partition } from './threads';

@unmanaged
export class LinearBackwardArgs {
  /** dy, (N, OUT) */
  gradient: usize;
  /** The weights for dx, and their gradient, which is added to, for dweight. */
  weights: usize;
  /** dx, and the input for dweight: (N, IN). */
  values: usize;
  batch: i32;
  inFeatures: i32;
  outFeatures: i32;
}

/** Columns that eight rows of weights go through for all images, while they are in L1. */
const COLUMNS: i32 = 1024;
const ROWS: i32 = 8;

/** dx. The threads share the columns; rows are added in groups of eight, in order. */
export function linearInputGradient(args: LinearBackwardArgs, thread: i32, threads: i32): void {
  const columns = args.inFeatures,
    rows = args.outFeatures;
  const first = partition(columns, 16, thread, threads),
    last = partition(columns, 16, thread + 1, threads);
  for (let n = 0; n < args.batch; n++) {
    memory.fill(args.values + ((<usize>(n * columns + first)) << 2), 0, (<usize>(last - first)) << 2);
  }
  const pitch = (<usize>columns) << 2;
  for (let o = 0; o < rows; o += ROWS) {
    const w = args.weights + <usize>o * pitch;
    for (let from = first; from < last; from += COLUMNS) {
      const to = min(from + COLUMNS, last);
      for (let n = 0; n < args.batch; n++) {
        const dy = args.gradient + ((<usize>(n * rows + o)) << 2),
          out = args.values + <usize>n * pitch;
        if (o + ROWS <= rows) addRows8(dy, w, pitch, out, from, to);
        else
          for (let i = 0; i < rows - o; i++)
            addRow(load<f32>(dy + ((<usize>i) << 2)), w + <usize>i * pitch, out, from, to);
      }
    }
  }
}

function addRows8(dy: usize, w: usize, pitch: usize, out: usize, from: i32, to: i32): void {
  const w1 = w + pitch,
    w2 = w1 + pitch,
    w3 = w2 + pitch,
    w4 = w3 + pitch,
    w5 = w4 + pitch,
    w6 = w5 + pitch,
    w7 = w6 + pitch;
  const d0 = v128.load32_splat(dy),
    d1 = v128.load32_splat(dy, 4);
  const d2 = v128.load32_splat(dy, 8),
    d3 = v128.load32_splat(dy, 12);
  const d4 = v128.load32_splat(dy, 16),
    d5 = v128.load32_splat(dy, 20);
  const d6 = v128.load32_splat(dy, 24),
    d7 = v128.load32_splat(dy, 28);
  const end = (<usize>to) << 2,
    whole = ((<usize>from) << 2) + (((<usize>(to - from)) << 2) & ~(V - 1));
  let i = (<usize>from) << 2;
  for (; i < whole; i += V) {
    // Two sums, so that one need not wait for the other.
    let a = f32x4.mul(d0, v128.load(w + i)),
      b = f32x4.mul(d1, v128.load(w1 + i));
    a = madd(d2, v128.load(w2 + i), a);
    b = madd(d3, v128.load(w3 + i), b);
    a = madd(d4, v128.load(w4 + i), a);
    b = madd(d5, v128.load(w5 + i), b);
    a = madd(d6, v128.load(w6 + i), a);
    b = madd(d7, v128.load(w7 + i), b);
    v128.store(out + i, f32x4.add(v128.load(out + i), f32x4.add(a, b)));
  }
  for (; i < end; i += 4) {
    let sum: f32 = 0;
    for (let row: usize = 0; row < <usize>ROWS; row++)
      sum += load<f32>(dy + (row << 2)) * load<f32>(w + row * pitch + i);
    store<f32>(out + i, load<f32>(out + i) + sum);
  }
}

function addRow(d: f32, w: usize, out: usize, from: i32, to: i32): void {
  const end = (<usize>to) << 2;
  for (let i = (<usize>from) << 2; i < end; i += 4) store<f32>(out + i, load<f32>(out + i) + d * load<f32>(w + i));
}

/** Columns of the inputs of all images that stay in L1. */
const BLOCK: i32 = 512;

/** dweight. The threads share its rows; images are added in order. */
export function linearWeightGradient(args: LinearBackwardArgs, thread: i32, threads: i32): void {
  const columns = args.inFeatures;
  const first = partition(args.outFeatures, 4, thread, threads),
    last = partition(args.outFeatures, 4, thread + 1, threads);
  const pitch = (<usize>columns) << 2;
  for (let from = 0; from < columns; from += BLOCK) {
    const to = min(from + BLOCK, columns);
    let o = first;
    for (; o + 4 <= last; o += 4) outer4(args, o, args.weights + <usize>o * pitch, pitch, from, to);
    for (; o < last; o++) outer1(args, o, args.weights + <usize>o * pitch, pitch, from, to);
  }
}

function outer4(args: LinearBackwardArgs, o: i32, w: usize, pitch: usize, from: i32, to: i32): void {
  const w1 = w + pitch,
    w2 = w1 + pitch,
    w3 = w2 + pitch,
    batch = args.batch,
    step = (<usize>args.outFeatures) << 2;
  const end = <usize>from + ((to - from) & ~7);
  let i = (<usize>from) << 2;
  for (; i < end << 2; i += 2 * V) {
    let s0 = v128.load(w + i),
      s1 = v128.load(w1 + i),
      s2 = v128.load(w2 + i),
      s3 = v128.load(w3 + i);
    let t0 = v128.load(w + i, V),
      t1 = v128.load(w1 + i, V),
      t2 = v128.load(w2 + i, V),
      t3 = v128.load(w3 + i, V);
    let x = args.values + i,
      dy = args.gradient + ((<usize>o) << 2);
    for (let n = 0; n < batch; n++) {
      const a = v128.load(x),
        b = v128.load(x, V);
      let d = v128.load32_splat(dy);
      s0 = madd(a, d, s0);
      t0 = madd(b, d, t0);
      d = v128.load32_splat(dy, 4);
      s1 = madd(a, d, s1);
      t1 = madd(b, d, t1);
      d = v128.load32_splat(dy, 8);
      s2 = madd(a, d, s2);
      t2 = madd(b, d, t2);
      d = v128.load32_splat(dy, 12);
      s3 = madd(a, d, s3);
      t3 = madd(b, d, t3);
      x += pitch;
      dy += step;
    }
    v128.store(w + i, s0);
    v128.store(w1 + i, s1);
    v128.store(w2 + i, s2);
    v128.store(w3 + i, s3);
    v128.store(w + i, t0, V);
    v128.store(w1 + i, t1, V);
    v128.store(w2 + i, t2, V);
    v128.store(w3 + i, t3, V);
  }
  for (let row = 0; row < 4; row++) outer1(args, o + row, w + <usize>row * pitch, pitch, <i32>(i >> 2), to);
}

function outer1(args: LinearBackwardArgs, o: i32, w: usize, pitch: usize, from: i32, to: i32): void {
  const end = (<usize>to) << 2,
    step = (<usize>args.outFeatures) << 2;
  for (let i = (<usize>from) << 2; i < end; i += 4) {
    let sum = load<f32>(w + i),
      x = args.values + i,
      dy = args.gradient + ((<usize>o) << 2);
    for (let n = 0; n < args.batch; n++) {
      sum += load<f32>(x) * load<f32>(dy);
      x += pitch;
      dy += step;
    }
    store<f32>(w + i, sum);
  }
}
