/*
 * linear: out[n, o] = Σ i  in[n, i] · weight[o, i] + bias[o], then ReLU if `relu` is not 0.
 *
 * The weights stay in the file's order, row-major (OUT, IN): at batch 1 this is a matrix–vector product that runs at memory
 * speed, so packing would gain nothing, and loading is a copy. Low-precision weights are expanded to float32 a few rows and
 * columns at a time, in L1, and give the same bits as those float32 weights.
 */
import { FP16, expandRow, rowBytes, scaleBytes } from './expand';
import { SCRATCH } from './gemm';
import { COLUMN_BLOCK, LinearArgs, addTo, storeOutput } from './linear-common';
import { HALF_ROWS, linearHalves } from './linear-fp16';
import { linearInt8 } from './linear-int8';
import { V, floatBytes, madd, sum4 } from './simd';
import { partition } from './threads';

/** Bytes from one expanded row to the next: a line more than needed, so that four rows share no set of L1. */
const EXPANDED_PITCH: usize = <usize>COLUMN_BLOCK * 4 + 64;
/** Bytes of four expanded rows. */
export const EXPANDED: i32 = 4 * <i32>EXPANDED_PITCH;

export function linear(args: LinearArgs, thread: i32, threads: i32): void {
  const first = partition(args.outFeatures, 4, thread, threads);
  const last = partition(args.outFeatures, 4, thread + 1, threads);
  const expanded = args.scratch + <usize>(thread * SCRATCH);
  const sums = expanded + EXPANDED;
  let o = first;
  if (isDefined(LOWP)) {
    if (args.digits != 0) return linearInt8(args, thread, threads);
    if (args.kind != 0) {
      if (args.kind == FP16 && args.batch == 1) {
        while (o + HALF_ROWS <= last && linearHalves(args, sums, o)) o += HALF_ROWS;
      }
      for (; o < last; o += 4) outputs4(args, expanded, sums, o, min(4, last - o));
      return;
    }
  }
  if (args.batch == 1) {
    for (; o + 11 < last; o += 12) outputs12(args, sums, o);
  }
  for (; o + 3 < last; o += 4) outputs4(args, expanded, sums, o, 4);
  for (; o < last; o++) {
    for (let n = 0; n < args.batch; n++) output1(args, n, o);
  }
}

/** The tail of a dot product past the last whole vector. */
// @ts-ignore: decorator
@inline
function tail(a: usize, b: usize, from: i32, to: i32): f32 {
  let sum: f32 = 0;
  for (let i = from; i < to; i++) sum += load<f32>(a + floatBytes(i)) * load<f32>(b + floatBytes(i));
  return sum;
}

/** One output. */
function output1(args: LinearArgs, n: i32, o: i32): void {
  const k = args.inFeatures;
  const whole = k & ~3;
  const x = args.input + floatBytes(n * k);
  const w = args.weights + floatBytes(o * k);
  let sum = f32x4.splat(0);
  for (let from = 0; from < whole; from += COLUMN_BLOCK) {
    const end = floatBytes(min(from + COLUMN_BLOCK, whole));
    let s = f32x4.splat(0);
    for (let i = floatBytes(from); i < end; i += V) s = madd(v128.load(x + i), v128.load(w + i), s);
    sum = f32x4.add(sum, s);
  }
  storeOutput(args, n, o, sum4(sum) + tail(x, w, whole, k));
}

/**
 * Twelve outputs of a single input. Reads wait at the start of each 4 KiB page, since no prefetcher crosses one; with as
 * many rows at once as there are registers, those waits overlap. Each step takes a whole cache line of each row, because
 * rows of 16 KiB all map to one set of the L1 cache, which has eight ways.
 */
function outputs12(args: LinearArgs, sums: usize, o: i32): void {
  const k = args.inFeatures;
  const rowSize = floatBytes(k);
  const x = args.input;
  const w = args.weights + <usize>o * rowSize;
  const whole = k & ~3;
  memory.fill(sums, 0, 12 * V);
  for (let from = 0; from < whole; from += COLUMN_BLOCK)
    dots12(x, w, rowSize, sums, from, min(from + COLUMN_BLOCK, whole));
  for (let i = 0; i < 12; i++) {
    const sum = sum4(v128.load(sums + <usize>i * V));
    storeOutput(args, 0, o + i, sum + tail(x, w + <usize>i * rowSize, whole, k));
  }
}

/** Four outputs of the whole batch, `count` of which exist: the weights come from memory once. */
function outputs4(args: LinearArgs, expanded: usize, sums: usize, o: i32, count: i32): void {
  const k = args.inFeatures;
  const batch = args.batch;
  const whole = k & ~3;
  const rowSize = floatBytes(k);
  let w = args.weights + <usize>o * rowSize;
  let pitch = rowSize;
  memory.fill(sums, 0, <usize>batch * 4 * V);
  for (let from = 0; from < k; from += COLUMN_BLOCK) {
    const to = min(from + COLUMN_BLOCK, whole);
    if (isDefined(LOWP) && args.kind != 0) {
      expand4(args, o, count, from, min(from + COLUMN_BLOCK, k), expanded);
      // So that column i has the same offset as in the weights.
      w = expanded - floatBytes(from);
      pitch = EXPANDED_PITCH;
    }
    let n = 0;
    for (; n + 2 < batch; n += 3) dots4x3(args, sums, w, pitch, n, from, to);
    for (; n < batch; n++) dots4x1(args, sums, w, pitch, n, from, to);
  }
  // The columns past the last whole vector are in the last block.
  for (let n = 0; n < batch; n++) {
    const x = args.input + <usize>n * rowSize;
    for (let i = 0; i < count; i++) {
      const sum = sum4(v128.load(sums + <usize>(n * 4 + i) * V));
      storeOutput(args, n, o + i, sum + tail(x, w + <usize>i * pitch, whole, k));
    }
  }
}

/** Columns [from, to) of up to four rows as float32. */
function expand4(args: LinearArgs, o: i32, count: i32, from: i32, to: i32, out: usize): void {
  const kind = args.kind;
  const size = rowBytes(kind, args.inFeatures);
  const scaleSize = scaleBytes(kind, args.inFeatures);
  for (let i = 0; i < count; i++) {
    const row = <usize>(o + i);
    expandRow(kind, args.weights + row * size, args.scales + row * scaleSize, from, to, out);
    out += EXPANDED_PITCH;
  }
}

/** Adds columns [from, to) of four rows of weights times three inputs to their sums. */
// biome-ignore format: a row of weights a line
function dots4x3(args: LinearArgs, sums: usize, w: usize, pitch: usize, n: i32, from: i32, to: i32): void {
  const rowSize = floatBytes(args.inFeatures);
  const x0 = args.input + <usize>n * rowSize, x1 = x0 + rowSize, x2 = x1 + rowSize;
  const w0 = w, w1 = w0 + pitch, w2 = w1 + pitch, w3 = w2 + pitch;
  const s = sums + <usize>n * 4 * V;
  let s00 = f32x4.splat(0), s01 = s00, s02 = s00, s03 = s00;
  let s10 = s00, s11 = s00, s12 = s00, s13 = s00;
  let s20 = s00, s21 = s00, s22 = s00, s23 = s00;
  const end = floatBytes(to);
  for (let i = floatBytes(from); i < end; i += V) {
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
// biome-ignore format: a row of weights a line
function dots4x1(args: LinearArgs, sums: usize, w: usize, pitch: usize, n: i32, from: i32, to: i32): void {
  const rowSize = floatBytes(args.inFeatures);
  const x = args.input + <usize>n * rowSize;
  const w0 = w, w1 = w0 + pitch, w2 = w1 + pitch, w3 = w2 + pitch;
  const s = sums + <usize>n * 4 * V;
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0;
  const end = floatBytes(to);
  for (let i = floatBytes(from); i < end; i += V) {
    const a = v128.load(x + i);
    s0 = madd(a, v128.load(w0 + i), s0);
    s1 = madd(a, v128.load(w1 + i), s1);
    s2 = madd(a, v128.load(w2 + i), s2);
    s3 = madd(a, v128.load(w3 + i), s3);
  }
  addTo(s + 0 * V, s0); addTo(s + 1 * V, s1); addTo(s + 2 * V, s2); addTo(s + 3 * V, s3);
}

/** Adds the products of a cache line's 16 columns in the order of the other loops. */
// @ts-ignore: decorator
@inline
function line(x: usize, w: usize, sum: v128): v128 {
  sum = madd(v128.load(x), v128.load(w), sum);
  sum = madd(v128.load(x, V), v128.load(w, V), sum);
  sum = madd(v128.load(x, 2 * V), v128.load(w, 2 * V), sum);
  return madd(v128.load(x, 3 * V), v128.load(w, 3 * V), sum);
}

/** Adds columns [from, to) of twelve rows of weights times an input to their sums. */
// biome-ignore format: a row of weights a line
function dots12(x: usize, w: usize, rowSize: usize, s: usize, from: i32, to: i32): void {
  const w0 = w, w1 = w0 + rowSize, w2 = w1 + rowSize, w3 = w2 + rowSize, w4 = w3 + rowSize, w5 = w4 + rowSize;
  const w6 = w5 + rowSize, w7 = w6 + rowSize, w8 = w7 + rowSize, w9 = w8 + rowSize, w10 = w9 + rowSize;
  const w11 = w10 + rowSize;
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0, s6 = s0, s7 = s0, s8 = s0, s9 = s0;
  let s10 = s0, s11 = s0;
  let i = floatBytes(from);
  const end = floatBytes(to), lines = i + ((end - i) & ~63);
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
