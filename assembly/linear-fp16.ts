/*
 * linear on halves at batch 1, six rows at a time: what is read becomes float32 in registers, where other kinds go through
 * L1 (linear.ts). Sums are taken in the order of the other loops, and so have the bits that float32 weights would give.
 */
import { FP16, floatOfHalf, highHalves, lowHalves, rowBytes } from './expand';
import { KC, LinearArgs, addTo, finish } from './linear';
import { V, madd, sum4 } from './simd';

/** Rows at a time. */
export const HALVES: i32 = 6;

/** Six outputs. False, with nothing done, if one of the rows has infinities or NaN. */
export function linearHalves(args: LinearArgs, sums: usize, o: i32): bool {
  const k = args.inFeatures, whole = k & ~3, x = args.input;
  const rowSize = rowBytes(FP16, k), w = args.weights + <usize>o * rowSize, units = args.scales + (<usize>o << 2);
  for (let i = 0; i < HALVES; i++) if (load<f32>(units + (<usize>i << 2)) < 0) return false;
  memory.fill(sums, 0, <usize>HALVES * V);
  for (let from = 0; from < whole; from += KC) dots6(x, w, rowSize, sums, from, min(from + KC, whole));
  for (let i = 0; i < HALVES; i++) {
    const unit = load<f32>(units + (<usize>i << 2)), row = w + <usize>i * rowSize;
    let tail: f32 = 0;
    for (let c = whole; c < k; c++) {
      tail += load<f32>(x + (<usize>c << 2)) * (floatOfHalf(load<u16>(row + (<usize>c << 1))) * unit);
    }
    // A power of two rounds nothing.
    finish(args, 0, o + i, sum4(v128.load(sums + <usize>i * V)) * unit + tail);
  }
  return true;
}

/** Adds columns [from, to) of six rows times the input to their sums, in each row's unit. */
function dots6(x: usize, w: usize, rowSize: usize, sums: usize, from: i32, to: i32): void {
  const w0 = w, w1 = w0 + rowSize, w2 = w1 + rowSize, w3 = w2 + rowSize, w4 = w3 + rowSize, w5 = w4 + rowSize;
  let s0 = f32x4.splat(0), s1 = s0, s2 = s0, s3 = s0, s4 = s0, s5 = s0;
  let i = <usize>from << 1;
  const end = <usize>to << 1;
  for (; i + V <= end; i += V) {
    const a = v128.load(x + (i << 1)), b = v128.load(x + (i << 1), V);
    s0 = pair(a, b, w0 + i, s0); s1 = pair(a, b, w1 + i, s1); s2 = pair(a, b, w2 + i, s2);
    s3 = pair(a, b, w3 + i, s3); s4 = pair(a, b, w4 + i, s4); s5 = pair(a, b, w5 + i, s5);
  }
  if (i < end) {
    const a = v128.load(x + (i << 1));
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
