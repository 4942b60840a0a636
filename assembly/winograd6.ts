/*
 * The transforms of Winograd's F(6×6, 3×3), a vector of four channels at a time; winograd.ts has the rest.
 *
 * The interpolation points are 0, ±1/2, ±1, ±2, ∞. Of all symmetric sets of sixteenths up to 35/16 they have the least
 * error in float32, and all constants of Aᵀ and Bᵀ are exact in it.
 */
import { V, madd } from './simd';
import { weightPair } from './winograd4';

/** The points ±A, ±1 and ±C. */
const A: f32 = 0.5;
const C: f32 = 2;
const A2: f32 = A * A;
const C2: f32 = C * C;
/** Π (x − p) = x⁷ − S x⁵ + Q x³ − P x, with P = A² C² = 1 */
const S: f32 = A2 + 1 + C2;
const Q: f32 = A2 + A2 * C2 + C2;

/** Inputs and outputs of a tile's side. */
const IN: usize = 8;
const OUT: usize = 6;

/**
 * Bᵀ d B: the pixels of d are `pixel` bytes apart and its rows `row`; place (i, j) of the result goes to
 * `to + (8 i + j) · place`. `vectors` has 64 vectors.
 */
export function input6(from: usize, row: usize, pixel: usize, to: usize, place: usize, vectors: usize): void {
  let v = vectors;
  for (let j: usize = 0; j < IN; j++) {
    inputLine(
      v128.load(from), v128.load(from + row), v128.load(from + 2 * row), v128.load(from + 3 * row),
      v128.load(from + 4 * row), v128.load(from + 5 * row), v128.load(from + 6 * row), v128.load(from + 7 * row),
      v, IN * V,
    );
    from += pixel;
    v += V;
  }
  v = vectors;
  for (let i: usize = 0; i < IN; i++) {
    inputLine(
      v128.load(v), v128.load(v, V), v128.load(v, 2 * V), v128.load(v, 3 * V),
      v128.load(v, 4 * V), v128.load(v, 5 * V), v128.load(v, 6 * V), v128.load(v, 7 * V),
      to, place,
    );
    v += IN * V;
    to += IN * place;
  }
}

/** Bᵀ times a line of eight: the row of a point p has the coefficients of Π (x − other points). */
// @ts-ignore: decorator
@inline
function inputLine(
  d0: v128, d1: v128, d2: v128, d3: v128, d4: v128, d5: v128, d6: v128, d7: v128, out: usize, step: usize,
): void {
  const minusS = f32x4.splat(-S), q = f32x4.splat(Q);
  v128.store(out, f32x4.sub(madd(d2, q, madd(d4, minusS, d6)), d0));
  const evenA = madd(d2, f32x4.splat(C2), madd(d4, f32x4.splat(-1 - C2), d6));
  const oddA = madd(d1, f32x4.splat(C2), madd(d3, f32x4.splat(-1 - C2), d5));
  v128.store(out + step, madd(oddA, f32x4.splat(A), evenA));
  v128.store(out + 2 * step, madd(oddA, f32x4.splat(-A), evenA));
  const even1 = madd(d4, f32x4.splat(-A2 - C2), f32x4.add(d2, d6));
  const odd1 = madd(d3, f32x4.splat(-A2 - C2), f32x4.add(d1, d5));
  v128.store(out + 3 * step, f32x4.add(even1, odd1));
  v128.store(out + 4 * step, f32x4.sub(even1, odd1));
  const evenC = madd(d2, f32x4.splat(A2), madd(d4, f32x4.splat(-1 - A2), d6));
  const oddC = madd(d1, f32x4.splat(A2), madd(d3, f32x4.splat(-1 - A2), d5));
  v128.store(out + 5 * step, madd(oddC, f32x4.splat(C), evenC));
  v128.store(out + 6 * step, madd(oddC, f32x4.splat(-C), evenC));
  v128.store(out + 7 * step, f32x4.sub(madd(d3, q, madd(d5, minusS, d7)), d1));
}

/** Aᵀ m A: place (i, j) of m is at `from + (8 i + j) · place`; the 36 results go to the first of 64 vectors. */
export function output6(from: usize, place: usize, vectors: usize): void {
  let v = vectors;
  for (let j: usize = 0; j < IN; j++) {
    outputLine(
      v128.load(from), v128.load(from + 8 * place), v128.load(from + 16 * place), v128.load(from + 24 * place),
      v128.load(from + 32 * place), v128.load(from + 40 * place), v128.load(from + 48 * place), v128.load(from + 56 * place),
      v, IN * V,
    );
    from += place;
    v += V;
  }
  v = vectors;
  for (let i: usize = 0; i < OUT; i++) {
    // Line i is read before its results are written, and those lie at or before it.
    outputLine(
      v128.load(v), v128.load(v, V), v128.load(v, 2 * V), v128.load(v, 3 * V),
      v128.load(v, 4 * V), v128.load(v, 5 * V), v128.load(v, 6 * V), v128.load(v, 7 * V),
      vectors, V,
    );
    v += IN * V;
    vectors += OUT * V;
  }
}

/** Aᵀ times a line of eight: row k has the k-th powers of the points. */
// @ts-ignore: decorator
@inline
function outputLine(
  m0: v128, m1: v128, m2: v128, m3: v128, m4: v128, m5: v128, m6: v128, m7: v128, out: usize, step: usize,
): void {
  const sumA = f32x4.add(m1, m2), sum1 = f32x4.add(m3, m4), sumC = f32x4.add(m5, m6);
  v128.store(out, f32x4.add(f32x4.add(m0, sumA), f32x4.add(sum1, sumC)));
  v128.store(out + 2 * step, madd(sumC, f32x4.splat(C2), madd(sumA, f32x4.splat(A2), sum1)));
  v128.store(out + 4 * step, madd(sumC, f32x4.splat(C2 * C2), madd(sumA, f32x4.splat(A2 * A2), sum1)));
  const difA = f32x4.sub(m1, m2), dif1 = f32x4.sub(m3, m4), difC = f32x4.sub(m5, m6);
  v128.store(out + step, madd(difC, f32x4.splat(C), madd(difA, f32x4.splat(A), dif1)));
  v128.store(out + 3 * step, madd(difC, f32x4.splat(C * C2), madd(difA, f32x4.splat(A * A2), dif1)));
  const last = f32x4.add(dif1, m7);
  v128.store(out + 5 * step, madd(difC, f32x4.splat(C * C2 * C2), madd(difA, f32x4.splat(A * A2 * A2), last)));
}

/** G times a line of three, as in winograd4.ts. */
// @ts-ignore: decorator
@inline
export function weight6(g0: v128, g1: v128, g2: v128, out: usize, step: usize): void {
  const a2: f64 = A2, c2: f64 = C2;
  // −1 / P
  v128.store(out, f64x2.neg(g0));
  weightPair(g0, g1, g2, A, 1 / (2 * a2 * (a2 - 1) * (a2 - c2)), out + step, step);
  weightPair(g0, g1, g2, 1, 1 / (2 * (1 - a2) * (1 - c2)), out + 3 * step, step);
  weightPair(g0, g1, g2, C, 1 / (2 * c2 * (c2 - a2) * (c2 - 1)), out + 5 * step, step);
  v128.store(out + 7 * step, g2);
}
