/*
 * linear in integers, for int8 or int4 weights and inputs that are not negative. Formula and shapes are those of linear.ts.
 *
 * An input becomes an integer from 0 to 127 · 128, in two digits of seven bits. That is as precise as float32 next to
 * weights of eight bits, and takes two dot products per vector of weights: far less than expanding the weights to float32.
 * Sums are exact, so every build, machine and number of threads gives the same ones; in int4 this holds for each group of
 * 32 columns, whose sums are then added in float32.
 */
import { INT4_GROUP, INT8, floatOf, largest, rowBytes, scaleBytes } from './expand';
import { SCRATCH } from './gemm';
import { LinearArgs, storeOutput } from './linear-common';
import { V, floatBytes, madd, roundUp, sum4 } from './simd';
import { barrier, partition } from './threads';

/** The integer that the largest input of an image becomes. */
const MAX_DIGITS: f32 = 16256;

/**
 * Bytes of an image's digits: the high ones and the low ones, padded to whole groups by zeros, and for each group a quarter
 * of eight times their sum.
 */
// @ts-ignore: decorator
@inline
function digitBytes(columns: i32): usize {
  const padded = <usize>roundUp(columns, INT4_GROUP);
  return 2 * padded + padded / 8;
}

export function linearInt8(args: LinearArgs, thread: i32, threads: i32): void {
  const size = digitBytes(args.inFeatures);
  const firstImage = partition(args.batch, 1, thread, threads);
  const lastImage = partition(args.batch, 1, thread + 1, threads);
  for (let n = firstImage; n < lastImage; n++) toDigits(args, n, args.digits + <usize>n * size);
  barrier();
  const sums = args.scratch + <usize>(thread * SCRATCH);
  const last = partition(args.outFeatures, 4, thread + 1, threads);
  for (let o = partition(args.outFeatures, 4, thread, threads); o < last; o += 4) {
    for (let n = 0; n < args.batch; n++) outputs4(args, sums, n, o, min(4, last - o), args.digits + <usize>n * size);
  }
}

/** The address of an image's largest input, after the digits. */
// @ts-ignore: decorator
@inline
function rangeAddress(args: LinearArgs, n: i32): usize {
  return args.digits + <usize>args.batch * digitBytes(args.inFeatures) + floatBytes(n);
}

function toDigits(args: LinearArgs, n: i32, out: usize): void {
  const k = args.inFeatures;
  const padded = <usize>roundUp(k, INT4_GROUP);
  const x = args.input + floatBytes(n * k);
  const range = largest(x, k);
  store<f32>(rangeAddress(args, n), range);
  const factor: f32 = range == 0 ? 0 : MAX_DIGITS / range;
  memory.fill(out, 0, 2 * padded);
  for (let i = 0; i < k; i++) {
    // NaN and infinities become some integer; their image's range is then not finite.
    const q = <i32>nearest<f32>(min<f32>(MAX_DIGITS, load<f32>(x + floatBytes(i)) * factor));
    store<u8>(out + i, q >> 7);
    store<u8>(out + padded + i, q & 127);
  }
  for (let from: usize = 0; from < padded; from += INT4_GROUP) {
    let sum = 0;
    for (let i: usize = 0; i < <usize>INT4_GROUP; i++) {
      sum += ((<i32>load<u8>(out + from + i)) << 7) + <i32>load<u8>(out + padded + from + i);
    }
    // Subtracted in four lanes, twice the sum removes the 8 that packing adds to every q.
    store<i32>(out + 2 * padded + from / 8, 2 * sum);
  }
}

/** Four outputs of an image, `count` of which exist; `x` are its digits. */
function outputs4(args: LinearArgs, sums: usize, n: i32, o: i32, count: i32, x: usize): void {
  const kind = args.kind;
  const k = args.inFeatures;
  const size = rowBytes(kind, k);
  const scaleSize = scaleBytes(kind, k);
  const w = args.weights + <usize>o * size;
  const scales = args.scales + <usize>o * scaleSize;
  const padded = <usize>roundUp(k, INT4_GROUP);
  const step = <f64>load<f32>(rangeAddress(args, n)) / MAX_DIGITS;
  if (kind == INT8) {
    bytes4(x, padded, w, size, count, sums);
    for (let i = 0; i < count; i++) {
      const high = sum(v128.load(sums + <usize>(2 * i) * V));
      const low = sum(v128.load(sums + <usize>(2 * i + 1) * V));
      storeOutput(args, n, o + i, <f32>((128 * <f64>high + <f64>low) * step * <f64>load<f32>(scales + floatBytes(i))));
    }
  } else {
    nibbles4(x, padded, w, size, scales, scaleSize, count, sums);
    for (let i = 0; i < count; i++)
      storeOutput(args, n, o + i, <f32>(<f64>sum4(v128.load(sums + <usize>i * V)) * step));
  }
}

/** The sum of the four lanes. */
function sum(v: v128): i32 {
  return i32x4.extract_lane(v, 0) + i32x4.extract_lane(v, 1) + i32x4.extract_lane(v, 2) + i32x4.extract_lane(v, 3);
}

/** Adds 16 products to the lanes of `sums`; which product goes to which lane depends on the build. */
// @ts-ignore: decorator
@inline
function dot(weights: v128, digits: v128, sums: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return i32x4.relaxed_dot_i8x16_i7x16_add_s(weights, digits, sums);
  sums = i32x4.add(sums, i32x4.extadd_pairwise_i16x8_s(i16x8.extmul_low_i8x16_s(weights, digits)));
  return i32x4.add(sums, i32x4.extadd_pairwise_i16x8_s(i16x8.extmul_high_i8x16_s(weights, digits)));
}

/** Four rows of int8 times high and low digits: two vectors of sums each. */
function bytes4(x: usize, padded: usize, w: usize, size: usize, count: i32, out: usize): void {
  // A missing row repeats the one before it.
  const w1: usize = count > 1 ? size : 0;
  const w2: usize = w1 + (count > 2 ? size : 0);
  const w3: usize = w2 + (count > 3 ? size : 0);
  let h0 = i32x4.splat(0);
  let h1 = h0;
  let h2 = h0;
  let h3 = h0;
  let l0 = h0;
  let l1 = h0;
  let l2 = h0;
  let l3 = h0;
  for (const end = w + size; w < end; w += V, x += V) {
    const high = v128.load(x);
    const low = v128.load(x + padded);
    let b = v128.load(w);
    h0 = dot(b, high, h0);
    l0 = dot(b, low, l0);
    b = v128.load(w + w1);
    h1 = dot(b, high, h1);
    l1 = dot(b, low, l1);
    b = v128.load(w + w2);
    h2 = dot(b, high, h2);
    l2 = dot(b, low, l2);
    b = v128.load(w + w3);
    h3 = dot(b, high, h3);
    l3 = dot(b, low, l3);
  }
  v128.store(out, h0);
  v128.store(out, l0, V);
  v128.store(out, h1, 2 * V);
  v128.store(out, l1, 3 * V);
  v128.store(out, h2, 4 * V);
  v128.store(out, l2, 5 * V);
  v128.store(out, h3, 6 * V);
  v128.store(out, l3, 7 * V);
}

/** Adds one group of a row of int4 to the row's sums: the 32 high digits are at `x`, the low ones at `x + padded`. */
// @ts-ignore: decorator
@inline
function group(x: usize, padded: usize, w: usize, scale: usize, offset: v128, sums: v128): v128 {
  const bytes = v128.load(w);
  const first = v128.and(bytes, i8x16.splat(0x0f));
  const second = i8x16.shr_u(bytes, 4);
  const zero = i32x4.splat(0);
  const high = dot(second, v128.load(x, V), dot(first, v128.load(x), zero));
  const low = dot(second, v128.load(x + padded, V), dot(first, v128.load(x + padded), zero));
  const total = i32x4.sub(i32x4.add(i32x4.shl(high, 7), low), offset);
  return madd(f32x4.convert_i32x4_s(total), f32x4.splat(floatOf(load<u16>(scale))), sums);
}

/** Four rows of int4: a vector of sums each. */
function nibbles4(
  x: usize,
  padded: usize,
  w: usize,
  size: usize,
  scales: usize,
  scaleSize: usize,
  count: i32,
  out: usize,
): void {
  const one: usize = count > 1 ? 1 : 0;
  const two: usize = one + (count > 2 ? 1 : 0);
  const three: usize = two + (count > 3 ? 1 : 0);
  const w1 = one * size;
  const w2 = two * size;
  const w3 = three * size;
  const s1 = one * scaleSize;
  const s2 = two * scaleSize;
  const s3 = three * scaleSize;
  let c0 = f32x4.splat(0);
  let c1 = c0;
  let c2 = c0;
  let c3 = c0;
  let offsets = x + 2 * padded;
  for (const end = w + size; w < end; w += V) {
    const offset = v128.load_splat<i32>(offsets);
    c0 = group(x, padded, w, scales, offset, c0);
    c1 = group(x, padded, w + w1, scales + s1, offset, c1);
    c2 = group(x, padded, w + w2, scales + s2, offset, c2);
    c3 = group(x, padded, w + w3, scales + s3, offset, c3);
    x += INT4_GROUP;
    scales += 2;
    offsets += 4;
  }
  v128.store(out, c0);
  v128.store(out, c1, V);
  v128.store(out, c2, 2 * V);
  v128.store(out, c3, 3 * V);
}
