/*
 * The transforms of Winograd's F(4×4, 3×3), a vector of four channels at a time; winograd.ts has the rest.
 *
 * The interpolation points are 0, ±3/4, ±3/2, ∞ and not the usual 0, ±1, ±2, ∞: in float32 that leaves half of the
 * error (after Barabasz, Anderson, Soodhalter and Gregg, "Error Analysis and Improving the Accuracy of Winograd
 * Convolution for Deep Neural Networks", 2018). All constants of Aᵀ and Bᵀ are exact in float32: the slightly better
 * 5/8 and 8/5 are not, and shift the mean of a layer's output.
 */
import { V, madd } from './simd';

/** The points ±A and ±B. */
const A: f32 = 0.75;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
/** Π (x − p) = x⁵ − S x³ + P x */
const S: f32 = A2 + B2;
const P: f32 = A2 * B2;

/** Inputs and outputs of a tile's side. */
const IN: usize = 6;
const OUT: usize = 4;

/**
 * Bᵀ d B: the pixels of d are `pixel` bytes apart and its rows `row`; place (i, j) of the result goes to
 * `to + (6 i + j) · place`. `vectors` has 36 vectors.
 */
export function input4(from: usize, row: usize, pixel: usize, to: usize, place: usize, vectors: usize): void {
  let v = vectors;
  for (let j: usize = 0; j < IN; j++) {
    inputLine(
      v128.load(from), v128.load(from + row), v128.load(from + 2 * row),
      v128.load(from + 3 * row), v128.load(from + 4 * row), v128.load(from + 5 * row),
      v, IN * V,
    );
    from += pixel;
    v += V;
  }
  v = vectors;
  for (let i: usize = 0; i < IN; i++) {
    inputLine(
      v128.load(v), v128.load(v, V), v128.load(v, 2 * V), v128.load(v, 3 * V), v128.load(v, 4 * V), v128.load(v, 5 * V),
      to, place,
    );
    v += IN * V;
    to += IN * place;
  }
}

/** Bᵀ times a line of six. */
// @ts-ignore: decorator
@inline
function inputLine(d0: v128, d1: v128, d2: v128, d3: v128, d4: v128, d5: v128, out: usize, step: usize): void {
  const minusS = f32x4.splat(-S), p = f32x4.splat(P);
  v128.store(out, madd(d0, p, madd(d2, minusS, d4)));
  const evenA = madd(d2, f32x4.splat(-B2), d4), oddA = madd(d1, f32x4.splat(-A * B2), f32x4.mul(d3, f32x4.splat(A)));
  v128.store(out + step, f32x4.add(evenA, oddA));
  v128.store(out + 2 * step, f32x4.sub(evenA, oddA));
  const evenB = madd(d2, f32x4.splat(-A2), d4), oddB = madd(d1, f32x4.splat(-A2 * B), f32x4.mul(d3, f32x4.splat(B)));
  v128.store(out + 3 * step, f32x4.add(evenB, oddB));
  v128.store(out + 4 * step, f32x4.sub(evenB, oddB));
  v128.store(out + 5 * step, madd(d1, p, madd(d3, minusS, d5)));
}

/** Aᵀ m A: place (i, j) of m is at `from + (6 i + j) · place`; the 16 results go to the first of 36 vectors. */
export function output4(from: usize, place: usize, vectors: usize): void {
  let v = vectors;
  for (let j: usize = 0; j < IN; j++) {
    outputLine(
      v128.load(from), v128.load(from + 6 * place), v128.load(from + 12 * place),
      v128.load(from + 18 * place), v128.load(from + 24 * place), v128.load(from + 30 * place),
      v, IN * V,
    );
    from += place;
    v += V;
  }
  v = vectors;
  for (let i: usize = 0; i < OUT; i++) {
    // Line i is read before its results are written, and those lie at or before it.
    outputLine(
      v128.load(v), v128.load(v, V), v128.load(v, 2 * V), v128.load(v, 3 * V), v128.load(v, 4 * V), v128.load(v, 5 * V),
      vectors, V,
    );
    v += IN * V;
    vectors += OUT * V;
  }
}

/** Aᵀ times a line of six. */
// @ts-ignore: decorator
@inline
function outputLine(m0: v128, m1: v128, m2: v128, m3: v128, m4: v128, m5: v128, out: usize, step: usize): void {
  const sumA = f32x4.add(m1, m2), sumB = f32x4.add(m3, m4);
  const difA = f32x4.sub(m1, m2), difB = f32x4.sub(m3, m4);
  v128.store(out, f32x4.add(f32x4.add(m0, sumA), sumB));
  v128.store(out + step, madd(difA, f32x4.splat(A), f32x4.mul(difB, f32x4.splat(B))));
  v128.store(out + 2 * step, madd(sumA, f32x4.splat(A2), f32x4.mul(sumB, f32x4.splat(B2))));
  v128.store(out + 3 * step, madd(difA, f32x4.splat(A * A2), madd(difB, f32x4.splat(B * B2), m5)));
}

/** G times a line of three: row of point p is (1, p, p²) / Π (p − other points); the last, of ∞, is (0, 0, 1). */
// @ts-ignore: decorator
@inline
export function weight4(g0: v128, g1: v128, g2: v128, out: usize, step: usize): void {
  const a2: f64 = A2, b2: f64 = B2;
  v128.store(out, f64x2.mul(g0, f64x2.splat(1 / (a2 * b2))));
  weightPair(g0, g1, g2, A, 1 / (2 * a2 * (a2 - b2)), out + step, step);
  weightPair(g0, g1, g2, B, 1 / (2 * b2 * (b2 - a2)), out + 3 * step, step);
  v128.store(out + 5 * step, g2);
}

/** The rows of G of the points ±p, whose denominators are the same. */
// @ts-ignore: decorator
@inline
export function weightPair(g0: v128, g1: v128, g2: v128, p: f64, factor: f64, out: usize, step: usize): void {
  const even = f64x2.add(g0, f64x2.mul(g2, f64x2.splat(p * p))), odd = f64x2.mul(g1, f64x2.splat(p));
  v128.store(out, f64x2.mul(f64x2.add(even, odd), f64x2.splat(factor)));
  v128.store(out + step, f64x2.mul(f64x2.sub(even, odd), f64x2.splat(factor)));
}
