/*
 * linear: out[n, o] = Σ i  in[n, i] · weight[o, i] + bias[o], then ReLU if asked for.
 *
 * The weights stay as the file has them, row-major (OUT, IN): at batch 1 this is a matrix–vector product that
 * runs at memory speed, so nothing is gained by packing and a load is a plain copy.
 */
import { SCRATCH } from './gemm';
import { V, madd, sum4 } from './simd';
import { cut } from './team';

@unmanaged
export class LinearArgs {
  input: usize;
  output: usize;
  weights: usize;
  bias: usize;
  relu: i32;
  batch: i32;
  inFeatures: i32;
  outFeatures: i32;
  /** SCRATCH bytes for each thread, of which a thread uses batch · 4 vectors. */
  scratch: usize;
}

/** Weights of four rows by this many columns (32 KiB) are used for the whole batch while they are in L1. */
const KC: i32 = 2048;

export function linear(args: LinearArgs, thread: i32, threads: i32): void {
  const first = cut(args.outFeatures, 4, thread, threads), last = cut(args.outFeatures, 4, thread + 1, threads);
  const sums = args.scratch + <usize>(thread * SCRATCH);
  const wide = first + ((last - first) & ~3);
  for (let o = first; o < wide; o += 4) {
    if (args.batch == 1) matvec4(args, o);
    else matmul4(args, sums, o);
  }
  for (let o = wide; o < last; o++) {
    for (let n = 0; n < args.batch; n++) row1(args, n, o);
  }
}

// @ts-ignore: decorator
@inline
function finish(args: LinearArgs, n: i32, o: i32, sum: f32): void {
  const value = sum + load<f32>(args.bias + (<usize>o << 2));
  // Not max(): ReLU keeps NaN.
  const result: f32 = args.relu && value < 0 ? 0 : value;
  store<f32>(args.output + (<usize>(n * args.outFeatures + o) << 2), result);
}

/** The tail of a dot product past the last whole vector. */
// @ts-ignore: decorator
@inline
function tail(a: usize, b: usize, from: i32, to: i32): f32 {
  let sum: f32 = 0;
  for (let i = from; i < to; i++) sum += load<f32>(a + (<usize>i << 2)) * load<f32>(b + (<usize>i << 2));
  return sum;
}

/** One output. */
function row1(args: LinearArgs, n: i32, o: i32): void {
  const k = args.inFeatures;
  const x = args.input + (<usize>(n * k) << 2);
  const w = args.weights + (<usize>o * <usize>k << 2);
  let s0 = f32x4.splat(0), s1 = s0;
  const pairs = k & ~7;
  for (let i = 0; i < pairs; i += 8) {
    const at = <usize>i << 2;
    s0 = madd(v128.load(x + at), v128.load(w + at), s0);
    s1 = madd(v128.load(x + at, V), v128.load(w + at, V), s1);
  }
  finish(args, n, o, sum4(f32x4.add(s0, s1)) + tail(x, w, pairs, k));
}

/** Four outputs of one input; eight chains of additions, to hide their latency. */
function matvec4(args: LinearArgs, o: i32): void {
  const k = args.inFeatures;
  const rowBytes = <usize>k << 2;
  const x = args.input;
  const w0 = args.weights + <usize>o * rowBytes;
  const w1 = w0 + rowBytes, w2 = w1 + rowBytes, w3 = w2 + rowBytes;
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
  const pairs = k & ~7;
  const end = <usize>pairs << 2;
  for (let i: usize = 0; i < end; i += 2 * V) {
    const x0 = v128.load(x + i), x1 = v128.load(x + i, V);
    s0 = madd(x0, v128.load(w0 + i), s0); t0 = madd(x1, v128.load(w0 + i, V), t0);
    s1 = madd(x0, v128.load(w1 + i), s1); t1 = madd(x1, v128.load(w1 + i, V), t1);
    s2 = madd(x0, v128.load(w2 + i), s2); t2 = madd(x1, v128.load(w2 + i, V), t2);
    s3 = madd(x0, v128.load(w3 + i), s3); t3 = madd(x1, v128.load(w3 + i, V), t3);
  }
  finish(args, 0, o, sum4(f32x4.add(s0, t0)) + tail(x, w0, pairs, k));
  finish(args, 0, o + 1, sum4(f32x4.add(s1, t1)) + tail(x, w1, pairs, k));
  finish(args, 0, o + 2, sum4(f32x4.add(s2, t2)) + tail(x, w2, pairs, k));
  finish(args, 0, o + 3, sum4(f32x4.add(s3, t3)) + tail(x, w3, pairs, k));
}

/** Four outputs of the whole batch: the weights come from memory once. */
function matmul4(args: LinearArgs, sums: usize, o: i32): void {
  const k = args.inFeatures, batch = args.batch;
  const rowBytes = <usize>k << 2;
  const w = args.weights + <usize>o * rowBytes;
  const whole = k & ~3;
  memory.fill(sums, 0, <usize>batch * 4 * V);
  for (let from = 0; from < whole; from += KC) {
    const to = min(from + KC, whole);
    let n = 0;
    for (; n + 2 < batch; n += 3) dots4x3(args, sums, w, n, from, to);
    for (; n < batch; n++) dots4x1(args, sums, w, n, from, to);
  }
  for (let n = 0; n < batch; n++) {
    const x = args.input + <usize>n * rowBytes;
    for (let i = 0; i < 4; i++) {
      const sum = sum4(v128.load(sums + <usize>(n * 4 + i) * V));
      finish(args, n, o + i, sum + tail(x, w + <usize>i * rowBytes, whole, k));
    }
  }
}

/** Adds columns [from, to) of four rows of weights times three inputs to their sums. */
function dots4x3(args: LinearArgs, sums: usize, w: usize, n: i32, from: i32, to: i32): void {
  const rowBytes = <usize>args.inFeatures << 2;
  const x0 = args.input + <usize>n * rowBytes, x1 = x0 + rowBytes, x2 = x1 + rowBytes;
  const w0 = w, w1 = w0 + rowBytes, w2 = w1 + rowBytes, w3 = w2 + rowBytes;
  const s = sums + <usize>n * 4 * V;
  let s00 = v128.load(s, 0 * V), s01 = v128.load(s, 1 * V), s02 = v128.load(s, 2 * V), s03 = v128.load(s, 3 * V);
  let s10 = v128.load(s, 4 * V), s11 = v128.load(s, 5 * V), s12 = v128.load(s, 6 * V), s13 = v128.load(s, 7 * V);
  let s20 = v128.load(s, 8 * V), s21 = v128.load(s, 9 * V), s22 = v128.load(s, 10 * V), s23 = v128.load(s, 11 * V);
  const end = <usize>to << 2;
  for (let i = <usize>from << 2; i < end; i += V) {
    const a0 = v128.load(x0 + i), a1 = v128.load(x1 + i), a2 = v128.load(x2 + i);
    let b = v128.load(w0 + i); s00 = madd(a0, b, s00); s10 = madd(a1, b, s10); s20 = madd(a2, b, s20);
    b = v128.load(w1 + i); s01 = madd(a0, b, s01); s11 = madd(a1, b, s11); s21 = madd(a2, b, s21);
    b = v128.load(w2 + i); s02 = madd(a0, b, s02); s12 = madd(a1, b, s12); s22 = madd(a2, b, s22);
    b = v128.load(w3 + i); s03 = madd(a0, b, s03); s13 = madd(a1, b, s13); s23 = madd(a2, b, s23);
  }
  v128.store(s, s00, 0 * V); v128.store(s, s01, 1 * V); v128.store(s, s02, 2 * V); v128.store(s, s03, 3 * V);
  v128.store(s, s10, 4 * V); v128.store(s, s11, 5 * V); v128.store(s, s12, 6 * V); v128.store(s, s13, 7 * V);
  v128.store(s, s20, 8 * V); v128.store(s, s21, 9 * V); v128.store(s, s22, 10 * V); v128.store(s, s23, 11 * V);
}

/** The same for one input. */
function dots4x1(args: LinearArgs, sums: usize, w: usize, n: i32, from: i32, to: i32): void {
  const rowBytes = <usize>args.inFeatures << 2;
  const x = args.input + <usize>n * rowBytes;
  const w0 = w, w1 = w0 + rowBytes, w2 = w1 + rowBytes, w3 = w2 + rowBytes;
  const s = sums + <usize>n * 4 * V;
  let s0 = v128.load(s, 0 * V), s1 = v128.load(s, 1 * V), s2 = v128.load(s, 2 * V), s3 = v128.load(s, 3 * V);
  const end = <usize>to << 2;
  for (let i = <usize>from << 2; i < end; i += V) {
    const a = v128.load(x + i);
    s0 = madd(a, v128.load(w0 + i), s0);
    s1 = madd(a, v128.load(w1 + i), s1);
    s2 = madd(a, v128.load(w2 + i), s2);
    s3 = madd(a, v128.load(w3 + i), s3);
  }
  v128.store(s, s0, 0 * V); v128.store(s, s1, 1 * V); v128.store(s, s2, 2 * V); v128.store(s, s3, 3 * V);
}
