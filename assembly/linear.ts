/*
 * linear: out[n, o] = Σ i  in[n, i] · weight[o, i] + bias[o], then ReLU if asked for.
 *
 * The weights stay as the file has them, row-major (OUT, IN): at batch 1 this is a matrix–vector product that
 * runs at memory speed, so nothing is gained by packing and a load is a plain copy. Weights in fewer bits become float32
 * a few rows and columns at a time, in L1, and give the bits that the same weights in float32 would.
 */
import { FP16, expandRow, rowBytes, scaleBytes } from './expand';
import { SCRATCH } from './gemm';
import { HALVES, linearHalves } from './linear-fp16';
import { linearInt8 } from './linear-int8';
import { V, madd, sum4 } from './simd';
import { partition } from './threads';

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
  /** SCRATCH bytes for each thread, of which a thread uses EXPANDED, then batch · 4 vectors, and 12 at least. */
  scratch: usize;
  /** How the weights lie: 0 for float32, or one of expand.ts. */
  kind: i32;
  /** Of the weights, where their kind has any: row by row. */
  scales: usize;
  /** Where linear-int8.ts has its inputs' digits; 0: the weights become float32. */
  digits: usize;
}

/**
 * Columns whose products are summed by themselves before they are added to the whole: four rows of weights by this many
 * (32 KiB) are used for the whole batch while they are in L1, and the shorter sums keep more digits. The order of a sum is
 * the same for any batch, so that an image gives the same bits alone and among others.
 */
export const KC: i32 = 2048;
/** Bytes from one row to the next of what four rows are expanded to: a line more, so that they share no set of L1. */
const PITCH: usize = <usize>KC * 4 + 64;
/** Bytes of four expanded rows. */
export const EXPANDED: i32 = 4 * <i32>PITCH;

export function linear(args: LinearArgs, thread: i32, threads: i32): void {
  const first = partition(args.outFeatures, 4, thread, threads), last = partition(args.outFeatures, 4, thread + 1, threads);
  const expanded = args.scratch + <usize>(thread * SCRATCH), sums = expanded + EXPANDED;
  let o = first;
  if (isDefined(LOWP)) {
    if (args.digits != 0) return linearInt8(args, thread, threads);
    if (args.kind != 0) {
      if (args.kind == FP16 && args.batch == 1) {
        while (o + HALVES <= last && linearHalves(args, sums, o)) o += HALVES;
      }
      for (; o < last; o += 4) rows4(args, expanded, sums, o, min(4, last - o));
      return;
    }
  }
  if (args.batch == 1) {
    for (; o + 11 < last; o += 12) rows12(args, sums, o);
  }
  for (; o + 3 < last; o += 4) rows4(args, expanded, sums, o, 4);
  for (; o < last; o++) {
    for (let n = 0; n < args.batch; n++) row1(args, n, o);
  }
}

// @ts-ignore: decorator
@inline
export function finish(args: LinearArgs, n: i32, o: i32, sum: f32): void {
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
  const k = args.inFeatures, whole = k & ~3;
  const x = args.input + (<usize>(n * k) << 2);
  const w = args.weights + (<usize>o * <usize>k << 2);
  let sum = f32x4.splat(0);
  for (let from = 0; from < whole; from += KC) {
    const end = <usize>min(from + KC, whole) << 2;
    let s = f32x4.splat(0);
    for (let i = <usize>from << 2; i < end; i += V) s = madd(v128.load(x + i), v128.load(w + i), s);
    sum = f32x4.add(sum, s);
  }
  finish(args, n, o, sum4(sum) + tail(x, w, whole, k));
}

/**
 * Twelve outputs of a single input. A read of memory in pages of 4 KiB waits at the start of each, since no prefetcher
 * looks past a page: with as many rows at once as there are registers for, those waits fall together. Each step takes a
 * whole cache line of each row, as rows of 16 KiB all fall into one set of the L1 cache, which has eight ways.
 */
function rows12(args: LinearArgs, sums: usize, o: i32): void {
  const k = args.inFeatures, rowSize = <usize>k << 2, x = args.input;
  const w = args.weights + <usize>o * rowSize;
  const whole = k & ~3;
  memory.fill(sums, 0, 12 * V);
  for (let from = 0; from < whole; from += KC) dots12(x, w, rowSize, sums, from, min(from + KC, whole));
  for (let i = 0; i < 12; i++) {
    const sum = sum4(v128.load(sums + <usize>i * V));
    finish(args, 0, o + i, sum + tail(x, w + <usize>i * rowSize, whole, k));
  }
}

/** Four outputs of the whole batch, of which `count` are there: the weights come from memory once. */
function rows4(args: LinearArgs, expanded: usize, sums: usize, o: i32, count: i32): void {
  const k = args.inFeatures, batch = args.batch, whole = k & ~3;
  const rowSize = <usize>k << 2;
  let w = args.weights + <usize>o * rowSize, pitch = rowSize;
  memory.fill(sums, 0, <usize>batch * 4 * V);
  for (let from = 0; from < k; from += KC) {
    const to = min(from + KC, whole);
    if (isDefined(LOWP) && args.kind != 0) {
      expand4(args, o, count, from, min(from + KC, k), expanded);
      // Column i lies where it would in rows that begin here.
      w = expanded - (<usize>from << 2);
      pitch = PITCH;
    }
    let n = 0;
    for (; n + 2 < batch; n += 3) dots4x3(args, sums, w, pitch, n, from, to);
    for (; n < batch; n++) dots4x1(args, sums, w, pitch, n, from, to);
  }
  // The columns past the last whole vector are in the last slice.
  for (let n = 0; n < batch; n++) {
    const x = args.input + <usize>n * rowSize;
    for (let i = 0; i < count; i++) {
      const sum = sum4(v128.load(sums + <usize>(n * 4 + i) * V));
      finish(args, n, o + i, sum + tail(x, w + <usize>i * pitch, whole, k));
    }
  }
}

/** Columns [from, to) of up to four rows as float32. */
function expand4(args: LinearArgs, o: i32, count: i32, from: i32, to: i32, out: usize): void {
  const kind = args.kind, size = rowBytes(kind, args.inFeatures), scaleSize = scaleBytes(kind, args.inFeatures);
  for (let i = 0; i < count; i++) {
    const row = <usize>(o + i);
    expandRow(kind, args.weights + row * size, args.scales + row * scaleSize, from, to, out);
    out += PITCH;
  }
}

/** Adds `value` to the vector at `address`. */
// @ts-ignore: decorator
@inline
export function addTo(address: usize, value: v128): void {
  v128.store(address, f32x4.add(v128.load(address), value));
}

/** Adds columns [from, to) of four rows of weights times three inputs to their sums. */
function dots4x3(args: LinearArgs, sums: usize, w: usize, pitch: usize, n: i32, from: i32, to: i32): void {
  const rowSize = <usize>args.inFeatures << 2;
  const x0 = args.input + <usize>n * rowSize, x1 = x0 + rowSize, x2 = x1 + rowSize;
  const w0 = w, w1 = w0 + pitch, w2 = w1 + pitch, w3 = w2 + pitch;
  const s = sums + <usize>n * 4 * V;
  let s00 = f32x4.splat(0), s01 = s00, s02 = s00, s03 = s00;
  let s10 = s00, s11 = s00, s12 = s00, s13 = s00;
  let s20 = s00, s21 = s00, s22 = s00, s23 = s00;
  const end = <usize>to << 2;
  for (let i = <usize>from << 2; i < end; i += V) {
    const a0 = v128.load(x0 + i), a1 = v128.load(x1 + i), a2 = v128.load(x2 + i);
    let b = v128.load(w0 + i); s00 = madd(a0, b, s00); s10 = madd(a1, b, s10); s20 = madd(a2, b, s20);
    b = v128.load(w1 + i); s01 = madd(a0, b, s01); s11 = madd(a1, b, s11); s21 = madd(a2, b, s21);
    b = v128.load(w2 + i); s02 = madd(a0, b, s02); s12 = madd(a1, b, s12); s22 = madd(a2, b, s22);
    b = v128.load(w3 + i); s03 = madd(a0, b, s03); s13 = madd(a1, b, s13); s23 = madd(a2, b, s23);
  }
  addTo(s + 0 * V, s00); addTo(s + 1 * V, s01); addTo(s + 2 * V, s02); addTo(s + 3 * V, s03);
  addTo(s + 4 * V, s10); addTo(s + 5 * V, s11); addTo(s + 6 * V, s12); addTo(s + 7 * V, s13);
  addTo(s + 8 * V, s20); addTo(s + 9 * V, s21); addTo(s + 10 * V, s22); addTo(s + 11 * V, s23);
}

/** The same for one input. */
function dots4x1(args: LinearArgs, sums: usize, w: usize, pitch: usize, n: i32, from: i32, to: i32): void {
  const rowSize = <usize>args.inFeatures << 2;
  const x = args.input + <usize>n * rowSize;
  const w0 = w, w1 = w0 + pitch, w2 = w1 + pitch, w3 = w2 + pitch;
  const s = sums + <usize>n * 4 * V;
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
  const end = <usize>to << 2;
  for (let i = <usize>from << 2; i < end; i += V) {
    const a = v128.load(x + i);
    s0 = madd(a, v128.load(w0 + i), s0);
    s1 = madd(a, v128.load(w1 + i), s1);
    s2 = madd(a, v128.load(w2 + i), s2);
    s3 = madd(a, v128.load(w3 + i), s3);
  }
  addTo(s + 0 * V, s0); addTo(s + 1 * V, s1); addTo(s + 2 * V, s2); addTo(s + 3 * V, s3);
}

/** Adds the products of a cache line's 16 columns, one after another as in the other loops. */
// @ts-ignore: decorator
@inline
function line(x: usize, w: usize, sum: v128): v128 {
  sum = madd(v128.load(x), v128.load(w), sum);
  sum = madd(v128.load(x, V), v128.load(w, V), sum);
  sum = madd(v128.load(x, 2 * V), v128.load(w, 2 * V), sum);
  return madd(v128.load(x, 3 * V), v128.load(w, 3 * V), sum);
}

/** Adds columns [from, to) of twelve rows of weights times an input to their sums. */
function dots12(x: usize, w: usize, rowSize: usize, s: usize, from: i32, to: i32): void {
  const w0 = w, w1 = w0 + rowSize, w2 = w1 + rowSize, w3 = w2 + rowSize, w4 = w3 + rowSize, w5 = w4 + rowSize;
  const w6 = w5 + rowSize, w7 = w6 + rowSize, w8 = w7 + rowSize, w9 = w8 + rowSize, w10 = w9 + rowSize;
  const w11 = w10 + rowSize;
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0, s9 = s0;
  let s10 = s0, s11 = s0;
  let i = <usize>from << 2;
  const end = <usize>to << 2, lines = i + ((end - i) & ~63);
  for (; i < lines; i += 4 * V) {
    const a = x + i;
    s0 = line(a, w0 + i, s0); s1 = line(a, w1 + i, s1); s2 = line(a, w2 + i, s2); s3 = line(a, w3 + i, s3);
    s4 = line(a, w4 + i, s4); s5 = line(a, w5 + i, s5); s6 = line(a, w6 + i, s6); s7 = line(a, w7 + i, s7);
    s8 = line(a, w8 + i, s8); s9 = line(a, w9 + i, s9); s10 = line(a, w10 + i, s10); s11 = line(a, w11 + i, s11);
  }
  for (; i < end; i += V) {
    const a = v128.load(x + i);
    s0 = madd(a, v128.load(w0 + i), s0); s1 = madd(a, v128.load(w1 + i), s1); s2 = madd(a, v128.load(w2 + i), s2);
    s3 = madd(a, v128.load(w3 + i), s3); s4 = madd(a, v128.load(w4 + i), s4); s5 = madd(a, v128.load(w5 + i), s5);
    s6 = madd(a, v128.load(w6 + i), s6); s7 = madd(a, v128.load(w7 + i), s7); s8 = madd(a, v128.load(w8 + i), s8);
    s9 = madd(a, v128.load(w9 + i), s9); s10 = madd(a, v128.load(w10 + i), s10); s11 = madd(a, v128.load(w11 + i), s11);
  }
  addTo(s, s0); addTo(s + V, s1); addTo(s + 2 * V, s2); addTo(s + 3 * V, s3); addTo(s + 4 * V, s4); addTo(s + 5 * V, s5);
  addTo(s + 6 * V, s6); addTo(s + 7 * V, s7); addTo(s + 8 * V, s8); addTo(s + 9 * V, s9); addTo(s + 10 * V, s10);
  addTo(s + 11 * V, s11);
}
