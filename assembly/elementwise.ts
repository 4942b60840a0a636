/*
 * Operations on dense values: relu, dropout and softmax.
 */
import { V, floatBytes, relu4 } from './simd';

/** max(x, 0) in place, over `count` values rounded up to a whole vector. */
export function relu(values: usize, count: i32): void {
  const end = values + floatBytes(count);
  for (let p = values; p < end; p += V) v128.store(p, relu4(v128.load(p)));
}

/**
 * Dropout in place: value i is multiplied by 0 if its draw, an integer below 2^24, is below `threshold`, and by
 * `scale` = 1 / (1 − p) otherwise. The draws are those of src/program/dropout.ts, whose `dropoutBase` makes `base`: every
 * backend drops the same values.
 */
export function dropout(values: usize, count: i32, base: u32, threshold: u32, scale: f32): void {
  for (let i = 0; i < count; i++) {
    const at = values + floatBytes(i);
    const draw = lowbias32(base + <u32>i) >> 8;
    store<f32>(at, load<f32>(at) * (draw < threshold ? 0 : scale));
  }
}

/** Mixes 32 bits: Chris Wellons, "Prospecting for Hash Functions", 2018. */
// @ts-ignore: decorator
@inline
function lowbias32(x: u32): u32 {
  x = (x ^ (x >> 16)) * 0x7feb352d;
  x = (x ^ (x >> 15)) * 0x846ca68b;
  return x ^ (x >> 16);
}

/**
 * Softmax of each of `rows` rows of `count` values: exp(x − max) / Σ exp(x − max). May run in place. One value at a time,
 * since a row costs little next to the linear layer that computed it.
 */
export function softmax(input: usize, output: usize, rows: i32, count: i32): void {
  for (let row = 0; row < rows; row++) {
    const from = input + floatBytes(row * count);
    const to = output + floatBytes(row * count);
    const bytes = floatBytes(count);
    let largest = -Infinity as f32;
    let sum: f32 = 0;
    for (let i: usize = 0; i < bytes; i += 4) largest = max(largest, load<f32>(from + i));
    for (let i: usize = 0; i < bytes; i += 4) {
      const e = exp(load<f32>(from + i) - largest);
      sum += e;
      store<f32>(to + i, e);
    }
    for (let i: usize = 0; i < bytes; i += 4) store<f32>(to + i, load<f32>(to + i) / sum);
  }
}

/**
 * e^x for x ≤ 0, to 2 units in the last place; 0 under −87. x = n·ln 2 + r with |r| ≤ ln 2 / 2, e^x = 2ⁿ·e^r,
 * e^r by its Taylor polynomial of degree 7 (error under 6e−9 there); ln 2 in two parts, as Cody and Waite, 1980.
 */
// @ts-ignore: decorator
@inline
function exp(x: f32): f32 {
  if (x < -87) return 0;
  const n = nearest<f32>(x * 1.4426950408889634);
  const r = x - n * 0.693359375 - n * -2.1219444e-4;
  let e: f32 = 1.0 / 5040.0;
  e = e * r + 1.0 / 720.0;
  e = e * r + 1.0 / 120.0;
  e = e * r + 1.0 / 24.0;
  e = e * r + 1.0 / 6.0;
  e = e * r + 0.5;
  e = e * r + 1;
  e = e * r + 1;
  return e * reinterpret<f32>((<i32>n + 127) << 23);
}
