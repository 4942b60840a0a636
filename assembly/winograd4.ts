/*
 * The transforms of Winograd's F(4×4, 3×3), a vector of four channels at a time; winograd.ts has the formula.
 *
 * The interpolation points are 0, ±3/4, ±3/2, ∞ instead of the usual 0, ±1, ±2, ∞, which halves the error in float32
 * (after Barabasz, Anderson, Soodhalter and Gregg, "Error Analysis and Improving the Accuracy of Winograd Convolution for
 * Deep Neural Networks", 2018). All constants of Aᵀ and Bᵀ are exact in float32; those of the slightly better points 5/8
 * and 8/5 are not, and shift the mean of a layer's output.
 */
import { V, madd, nmadd } from './simd';

/** The points ±A and ±B. */
const A: f32 = 0.75;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
/** Π (x − p) = x⁵ − S x³ + P x */
const S: f32 = A2 + B2;
const P: f32 = A2 * B2;

/** Inputs of a tile's side. */
const IN: usize = 6;

/** The points along a side that it shares with F(2, 3), bit by bit: those of 0, ±A and ∞. */
export const SHARED4: i32 = 0b100111;

/** Offsets of the constants, which follow the vectors; winograd6.ts says why. */
const AT: usize = IN * IN * V;
const AT_S: usize = AT;
const AT_P: usize = AT + V;
const AT_A: usize = AT + 2 * V;
const AT_B: usize = AT + 3 * V;
const AT_A2: usize = AT + 4 * V;
const AT_B2: usize = AT + 5 * V;
const AT_AB2: usize = AT + 6 * V;
const AT_A2B: usize = AT + 7 * V;
const AT_A3: usize = AT + 8 * V;
const AT_B3: usize = AT + 9 * V;
const AT_SHORT: usize = AT + 10 * V;
const AT_SHORT_A: usize = AT + 11 * V;

/** Writes the constants after the 36 vectors. */
export function constants4(vectors: usize): void {
  v128.store(vectors, f32x4.splat(S), AT_S);
  v128.store(vectors, f32x4.splat(P), AT_P);
  v128.store(vectors, f32x4.splat(A), AT_A);
  v128.store(vectors, f32x4.splat(B), AT_B);
  v128.store(vectors, f32x4.splat(A2), AT_A2);
  v128.store(vectors, f32x4.splat(B2), AT_B2);
  v128.store(vectors, f32x4.splat(A * B2), AT_AB2);
  v128.store(vectors, f32x4.splat(A2 * B), AT_A2B);
  v128.store(vectors, f32x4.splat(A * A2), AT_A3);
  v128.store(vectors, f32x4.splat(B * B2), AT_B3);
  v128.store(vectors, f32x4.splat(A2 - B2), AT_SHORT);
  v128.store(vectors, f32x4.splat(A * (A2 - B2)), AT_SHORT_A);
}

/** Bᵀ times a line of six. */
// @ts-ignore: decorator
@inline
export function inputLine4(from: usize, step: usize, out: usize, outStep: usize, vectors: usize): void {
  const d0 = v128.load(from);
  const d1 = v128.load(from + step);
  const d2 = v128.load(from + 2 * step);
  const d3 = v128.load(from + 3 * step);
  const d4 = v128.load(from + 4 * step);
  const d5 = v128.load(from + 5 * step);
  const s = v128.load(vectors, AT_S);
  const p = v128.load(vectors, AT_P);
  v128.store(out, madd(d0, p, nmadd(d2, s, d4)));
  v128.store(out + 5 * outStep, madd(d1, p, nmadd(d3, s, d5)));
  const evenA = nmadd(d2, v128.load(vectors, AT_B2), d4);
  const oddA = nmadd(d1, v128.load(vectors, AT_AB2), f32x4.mul(d3, v128.load(vectors, AT_A)));
  v128.store(out + outStep, f32x4.add(evenA, oddA));
  v128.store(out + 2 * outStep, f32x4.sub(evenA, oddA));
  const evenB = nmadd(d2, v128.load(vectors, AT_A2), d4);
  const oddB = nmadd(d1, v128.load(vectors, AT_A2B), f32x4.mul(d3, v128.load(vectors, AT_B)));
  v128.store(out + 3 * outStep, f32x4.add(evenB, oddB));
  v128.store(out + 4 * outStep, f32x4.sub(evenB, oddB));
}

/** Bᵀ of F(2, 3) times a line of four. The row of a point p is multiplied by p² − B², by which G of F(4, 3) divides. */
// @ts-ignore: decorator
@inline
export function shortInput4(from: usize, step: usize, out: usize, outStep: usize, vectors: usize): void {
  const d0 = v128.load(from);
  const d1 = v128.load(from + step);
  const d2 = v128.load(from + 2 * step);
  const d3 = v128.load(from + 3 * step);
  const p = v128.load(vectors, AT_P);
  const factor = v128.load(vectors, AT_SHORT);
  v128.store(out, nmadd(d2, v128.load(vectors, AT_B2), f32x4.mul(d0, p)));
  const even = f32x4.mul(d2, factor);
  const odd = f32x4.mul(d1, v128.load(vectors, AT_SHORT_A));
  v128.store(out + outStep, f32x4.add(even, odd));
  v128.store(out + 2 * outStep, f32x4.sub(even, odd));
  v128.store(out + 5 * outStep, nmadd(d1, v128.load(vectors, AT_A2), d3));
}

/** Aᵀ times a line of six. */
// @ts-ignore: decorator
@inline
export function outputLine4(from: usize, step: usize, out: usize, outStep: usize, vectors: usize): void {
  const m0 = v128.load(from);
  const m1 = v128.load(from + step);
  const m2 = v128.load(from + 2 * step);
  const m3 = v128.load(from + 3 * step);
  const m4 = v128.load(from + 4 * step);
  const m5 = v128.load(from + 5 * step);
  const sumA = f32x4.add(m1, m2);
  const sumB = f32x4.add(m3, m4);
  const difA = f32x4.sub(m1, m2);
  const difB = f32x4.sub(m3, m4);
  v128.store(out, f32x4.add(f32x4.add(m0, sumA), sumB));
  v128.store(out + outStep, madd(difA, v128.load(vectors, AT_A), f32x4.mul(difB, v128.load(vectors, AT_B))));
  v128.store(out + 2 * outStep, madd(sumA, v128.load(vectors, AT_A2), f32x4.mul(sumB, v128.load(vectors, AT_B2))));
  v128.store(out + 3 * outStep, madd(difA, v128.load(vectors, AT_A3), madd(difB, v128.load(vectors, AT_B3), m5)));
}

/** Aᵀ of F(2, 3) times a line of four. */
// @ts-ignore: decorator
@inline
export function shortOutput4(from: usize, step: usize, out: usize, outStep: usize, vectors: usize): void {
  const m0 = v128.load(from);
  const m1 = v128.load(from + step);
  const m2 = v128.load(from + 2 * step);
  const m3 = v128.load(from + 5 * step);
  v128.store(out, f32x4.add(m0, f32x4.add(m1, m2)));
  v128.store(out + outStep, madd(f32x4.sub(m1, m2), v128.load(vectors, AT_A), m3));
}

/** G times a line of three: row of point p is (1, p, p²) / Π (p − other points); the last, of ∞, is (0, 0, 1). */
// @ts-ignore: decorator
@inline
export function weight4(g0: v128, g1: v128, g2: v128, out: usize, step: usize): void {
  const a2: f64 = A2;
  const b2: f64 = B2;
  v128.store(out, f64x2.mul(g0, f64x2.splat(1 / (a2 * b2))));
  weightPair(g0, g1, g2, A, 1 / (2 * a2 * (a2 - b2)), out + step, step);
  weightPair(g0, g1, g2, B, 1 / (2 * b2 * (b2 - a2)), out + 3 * step, step);
  v128.store(out + 5 * step, g2);
}

/** The rows of G of the points ±p, whose denominators are the same. */
// @ts-ignore: decorator
@inline
export function weightPair(g0: v128, g1: v128, g2: v128, p: f64, factor: f64, out: usize, step: usize): void {
  const even = f64x2.add(g0, f64x2.mul(g2, f64x2.splat(p * p)));
  const odd = f64x2.mul(g1, f64x2.splat(p));
  v128.store(out, f64x2.mul(f64x2.add(even, odd), f64x2.splat(factor)));
  v128.store(out + step, f64x2.mul(f64x2.sub(even, odd), f64x2.splat(factor)));
}
