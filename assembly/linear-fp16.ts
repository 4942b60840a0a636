/*
 * linear with fp16 weights at batch 1, six rows at a time. Formula and shapes are those of linear.ts; the weights become
 * float32 in registers, where other kinds go through L1. Sums have the order of the other loops, and so the bits that
 * float32 weights would give.
 */
import { FP16, floatOfHalf, highHalves, lowHalves, rowBytes } from './expand';
import { COLUMN_BLOCK, LinearArgs, addTo, storeOutput } from './linear-common';
import { V, floatBytes, halfBytes, madd, sum4 } from './simd';

/** Rows at a time. */
export const HALF_ROWS: i32 = 6;

/** Six outputs. Returns false and does nothing if one of the rows has infinities or NaN. */
export function linearHalves(args: LinearArgs, sums: usize, o: i32): bool {
  const k = args.inFeatures;
  const whole = k & ~3;
  const x = args.input;
  const rowSize = rowBytes(FP16, k);
  const w = args.weights + <usize>o * rowSize;
  const units = args.scales + floatBytes(o);
  for (let i = 0; i < HALF_ROWS; i++) {
    if (load<f32>(units + floatBytes(i)) < 0) return false;
  }
  memory.fill(sums, 0, <usize>HALF_ROWS * V);
  for (let from = 0; from < whole; from += COLUMN_BLOCK)
    dots6(x, w, rowSize, sums, from, min(from + COLUMN_BLOCK, whole));
  for (let i = 0; i < HALF_ROWS; i++) {
    const unit = load<f32>(units + floatBytes(i));
    const row = w + <usize>i * rowSize;
    let tail: f32 = 0;
    for (let c = whole; c < k; c++) {
      tail += load<f32>(x + floatBytes(c)) * (floatOfHalf(load<u16>(row + halfBytes(c))) * unit);
    }
    // The unit is a power of two, so this product is exact.
    storeOutput(args, 0, o + i, sum4(v128.load(sums + <usize>i * V)) * unit + tail);
  }
  return true;
}

/** Adds columns [from, to) of six rows times the input to their sums, in each row's unit. */
// biome-ignore format: a row of weights a line
function dots6(x: usize, w: usize, rowSize: usize, sums: usize, from: i32, to: i32): void {
  const w0 = w, w1 = w0 + rowSize, w2 = w1 + rowSize, w3 = w2 + rowSize, w4 = w3 + rowSize, w5 = w4 + rowSize;
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0;
  let i = halfBytes(from);
  const end = halfBytes(to);
  for (; i + V <= end; i += V) {
    const a = v128.load(x + 2 * i), b = v128.load(x + 2 * i, V);
    s0 = pair(a, b, w0 + i, s0); s1 = pair(a, b, w1 + i, s1); s2 = pair(a, b, w2 + i, s2);
    s3 = pair(a, b, w3 + i, s3); s4 = pair(a, b, w4 + i, s4); s5 = pair(a, b, w5 + i, s5);
  }
  if (i < end) {
    const a = v128.load(x + 2 * i);
    s0 = half(a, w0 + i, s0); s1 = half(a, w1 + i, s1); s2 = half(a, w2 + i, s2);
    s3 = half(a, w3 + i, s3); s4 = half(a, w4 + i, s4); s5 = half(a, w5 + i, s5);
  }
  addTo(sums, s0); addTo(sums + V, s1); addTo(sums + 2 * V, s2);
  addTo(sums + 3 * V, s3); addTo(sums + 4 * V, s4); addTo(sums + 5 * V, s5);
}

/** Adds the products of eight columns, four and then four. */
// @ts-ignore: decorator
@inline
function pair(a: v128, b: v128, address: usize, sum: v128): v128 {
  const halves = v128.load(address);
  return madd(b, highHalves(halves), madd(a, lowHalves(halves), sum));
}

// @ts-ignore: decorator
@inline
function half(a: v128, address: usize, sum: v128): v128 {
  return madd(a, lowHalves(v128.load64_zero(address)), sum);
}
