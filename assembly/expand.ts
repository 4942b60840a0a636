/*
 * Low-precision weights, a row (the inputs of one output) at a time: their layout in memory, packing and expansion.
 * Expanded values are the float32 that the weights file means, to the bit: q · scale has at most 24 significant bits, since
 * src/weights/quantize/math.ts chooses scales so.
 *
 *   FP16  halves, multiplied by a power of two per row that brings the largest just below the end of their range, so that
 *         none is subnormal: multiplying a subnormal takes processors a hundred cycles. The row's unit, a float32, is the
 *         inverse of that power; it is −1 for a row with infinities or NaN, whose halves are not multiplied
 *   INT8  q from −127 to 127, with one scale per row, a float32
 *   INT4  q from −7 to 7, with one scale per 32 columns, the upper half of a float32 (bfloat16). 32 columns are 16 bytes:
 *         q + 8 of column i in the low bits of byte i and of column 16 + i in the high ones, so that a vector is unpacked
 *         without a shuffle
 *
 * Rows are padded to whole vectors; values past the last column are never used.
 */
import { V, floatBytes, halfBytes, roundUp } from './simd';

export const FP16: i32 = 1;
export const INT8: i32 = 2;
export const INT4: i32 = 3;

/** Columns that share a scale in INT4. */
export const INT4_GROUP: i32 = 32;

/** Bytes of a row. */
export function rowBytes(kind: i32, columns: i32): usize {
  if (kind == FP16) return halfBytes(roundUp(columns, 8));
  if (kind == INT8) return roundUp(columns, 16);
  return <usize>roundUp(columns, INT4_GROUP) >> 1;
}

/** Bytes of a row's scales. */
export function scaleBytes(kind: i32, columns: i32): usize {
  if (kind != INT4) return 4;
  return halfBytes(roundUp(columns, INT4_GROUP) / INT4_GROUP);
}

/** Columns [from, to) of a row as float32. `from` is a multiple of 32; up to 31 more columns may be written. */
export function expandRow(kind: i32, row: usize, scales: usize, from: i32, to: i32, out: usize): void {
  if (kind == FP16) expandHalves(row + halfBytes(from), row + halfBytes(to), load<f32>(scales), out);
  else if (kind == INT8) expandBytes(row + from, row + to, load<f32>(scales), out);
  else {
    const group = <usize>from / INT4_GROUP;
    expandNibbles(row + group * V, row + (<usize>roundUp(to, INT4_GROUP) >> 1), scales + 2 * group, out);
  }
}

/** Packs a row of float32 and chooses its scales. */
export function packRow(kind: i32, values: usize, columns: i32, row: usize, scales: usize): void {
  if (kind == FP16) {
    packHalves(values, columns, row, scales);
  } else if (kind == INT8) {
    const scale = scaleOf(largest(values, columns), 127, 16);
    const inverse = inverseOf(scale);
    store<f32>(scales, <f32>scale);
    for (let i = 0; i < columns; i++) store<i8>(row + i, quantize(load<f32>(values + floatBytes(i)), inverse));
  } else {
    for (let from = 0; from < columns; from += INT4_GROUP) {
      const group = <usize>from / INT4_GROUP;
      packGroup(values + floatBytes(from), min(INT4_GROUP, columns - from), row + group * V, scales + 2 * group);
    }
  }
}

function packHalves(values: usize, columns: i32, row: usize, unit: usize): void {
  let magnitude: u16 = 0;
  for (let i = 0; i < columns; i++) {
    const half = halfOf(load<f32>(values + floatBytes(i)));
    store<u16>(row + halfBytes(i), half);
    magnitude = max(magnitude, half & 0x7fff);
  }
  store<f32>(unit, -1);
  if (magnitude >= 0x7c00) return;
  // The largest value gets the largest finite exponent, which is stored as 30; a subnormal counts as 1.
  const shift = 30 - max<i32>(magnitude >> 10, 1);
  const power = reinterpret<f32>((127 + shift) << 23);
  store<f32>(unit, reinterpret<f32>((127 - shift) << 23));
  for (let i = 0; i < columns; i++) {
    const at = row + halfBytes(i);
    store<u16>(at, halfOf(floatOfHalf(load<u16>(at)) * power));
  }
}

function packGroup(values: usize, count: i32, out: usize, scales: usize): void {
  const scale = scaleOf(largest(values, count), 7, 7);
  const inverse = inverseOf(scale);
  store<u16>(scales, <u16>(reinterpret<u32>(<f32>scale) >> 16));
  memory.fill(out, 0x88, V);
  for (let i = 0; i < count; i++) {
    const q = <u8>(quantize(load<f32>(values + floatBytes(i)), inverse) + 8);
    const byte = out + (i & 15);
    const other = load<u8>(byte);
    store<u8>(byte, i < 16 ? (other & 0xf0) | q : (other & 0x0f) | (q << 4));
  }
}

/** The largest |value|; NaN if one is NaN. Compared as integers, magnitudes keep their order, and NaN is above all. */
export function largest(values: usize, count: i32): f32 {
  const mask = i32x4.splat(0x7fff_ffff);
  let lanes = i32x4.splat(0);
  let i = 0;
  for (; i + 3 < count; i += 4) lanes = i32x4.max_s(lanes, v128.and(v128.load(values + floatBytes(i)), mask));
  let bits = max(
    max(i32x4.extract_lane(lanes, 0), i32x4.extract_lane(lanes, 1)),
    max(i32x4.extract_lane(lanes, 2), i32x4.extract_lane(lanes, 3)),
  );
  for (; i < count; i++) bits = max(bits, load<i32>(values + floatBytes(i)) & 0x7fff_ffff);
  return reinterpret<f32>(bits);
}

/**
 * The scale for a largest |value| and |q|: their quotient, rounded up to `digits` bits after the first one; 0 if it is below
 * float32's normal numbers.
 */
export function scaleOf(largest: f32, q: f64, digits: i32): f64 {
  const scale = <f64>largest / q;
  const exponent = <i32>((reinterpret<i64>(scale) >> 52) & 0x7ff) - 1023;
  if (exponent < -126) return 0;
  const step = reinterpret<f64>((<i64>(exponent - digits + 1023)) << 52);
  return ceil(scale / step) * step;
}

/** The integer nearest to `value` / scale, given the inverse of the scale; ties to even. */
// @ts-ignore: decorator
@inline
export function quantize(value: f32, inverse: f64): i32 {
  return <i32>nearest<f64>(<f64>value * inverse);
}

// @ts-ignore: decorator
@inline
export function inverseOf(scale: f64): f64 {
  return scale == 0 ? 0 : 1 / scale;
}

/** The nearest half's bits, ties to even; infinity above 65504. */
function halfOf(value: f32): u16 {
  const bits = reinterpret<u32>(value);
  const sign = (bits >> 16) & 0x8000;
  const rest = bits & 0x7fff_ffff;
  if (rest > 0x7f80_0000) return <u16>(sign | 0x7e00 | ((rest >> 13) & 0x3ff));
  if (rest >= 0x4780_0000) return <u16>(sign | 0x7c00);
  // A subnormal: adding 0.5 moves the rounding to the bit that counts 2^-24.
  if (rest < 0x3880_0000) return <u16>(sign | (reinterpret<u32>(reinterpret<f32>(rest) + 0.5) - 0x3f00_0000));
  return <u16>(sign | ((rest - 0x3800_0000 + 0xfff + ((rest >> 13) & 1)) >> 13));
}

/** Stores eight integers times a scale. */
function store8(out: usize, words: v128, scale: v128): void {
  v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(words)), scale));
  v128.store(out, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(words)), scale), V);
}

function expandBytes(from: usize, to: usize, scale: f32, out: usize): void {
  const s = f32x4.splat(scale);
  for (; from < to; from += 16) {
    const bytes = v128.load(from);
    store8(out, i16x8.extend_low_i8x16_s(bytes), s);
    store8(out + 2 * V, i16x8.extend_high_i8x16_s(bytes), s);
    out += 4 * V;
  }
}

function expandNibbles(from: usize, to: usize, scales: usize, out: usize): void {
  const low = i8x16.splat(0x0f);
  const eight = i8x16.splat(8);
  for (; from < to; from += V) {
    const bytes = v128.load(from);
    const s = f32x4.splat(floatOf(load<u16>(scales)));
    const first = i8x16.sub(v128.and(bytes, low), eight);
    const second = i8x16.sub(i8x16.shr_u(bytes, 4), eight);
    store8(out, i16x8.extend_low_i8x16_s(first), s);
    store8(out + 2 * V, i16x8.extend_high_i8x16_s(first), s);
    store8(out + 4 * V, i16x8.extend_low_i8x16_s(second), s);
    store8(out + 6 * V, i16x8.extend_high_i8x16_s(second), s);
    scales += 2;
    out += 8 * V;
  }
}

/** 2^112, the difference of the two formats' exponents; a multiplication also makes subnormals right. */
const REBIAS: f32 = 5192296858534827628530496329220096.0;

/** The float32 of a bfloat16. */
// @ts-ignore: decorator
@inline
export function floatOf(bits: u32): f32 {
  return reinterpret<f32>(bits << 16);
}

/** The float32 of a half that is finite. */
export function floatOfHalf(half: u32): f32 {
  return reinterpret<f32>(((half & 0x8000) << 16) | ((half & 0x7fff) << 13)) * REBIAS;
}

/** The first four of eight halves as float32. */
// @ts-ignore: decorator
@inline
export function lowHalves(halves: v128): v128 {
  return floatsOf(i32x4.extend_low_i16x8_s(halves));
}

/** The last four. */
// @ts-ignore: decorator
@inline
export function highHalves(halves: v128): v128 {
  return floatsOf(i32x4.extend_high_i16x8_s(halves));
}

/** Halves as signed integers: after the shift, the sign is there four times before five of the exponent's eight bits. */
// @ts-ignore: decorator
@inline
function floatsOf(halves: v128): v128 {
  return f32x4.mul(v128.and(i32x4.shl(halves, 13), i32x4.splat(0x8fff_e000)), f32x4.splat(REBIAS));
}

function expandHalves(from: usize, to: usize, unit: f32, out: usize): void {
  if (unit < 0) return expandSpecial(from, to, out);
  const factor = f32x4.splat(unit);
  for (; from < to; from += V) {
    const halves = v128.load(from);
    v128.store(out, f32x4.mul(lowHalves(halves), factor));
    v128.store(out, f32x4.mul(highHalves(halves), factor), V);
    out += 2 * V;
  }
}

/** Expands a row with infinities or NaN, whose exponents have all bits set. */
function expandSpecial(from: usize, to: usize, out: usize): void {
  const rebias = f32x4.splat(REBIAS);
  for (; from < to; from += 8) {
    // The half's bits at the top; then as a float32's, with five of the exponent's eight bits.
    const bits = i32x4.shl(v128.load16x4_u(from), 16);
    const rest = i32x4.shr_u(v128.and(bits, i32x4.splat(0x7fff_0000)), 3);
    const special = v128.and(i32x4.ge_s(rest, i32x4.splat(0x0f80_0000)), i32x4.splat(0x7f80_0000));
    const value = v128.or(f32x4.mul(rest, rebias), special);
    v128.store(out, v128.or(value, v128.and(bits, i32x4.splat(0x8000_0000))));
    out += V;
  }
}
