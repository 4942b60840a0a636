/*
 * The transforms of Winograd's F(6×6, 3×3), a vector of four channels at a time; winograd.ts has the formula.
 *
 * The interpolation points are 0, ±1/2, ±1, ±2, ∞. Of all symmetric sets of sixteenths up to 35/16 they have the smallest
 * error in float32, in which all constants of Aᵀ and Bᵀ are exact.
 */
import { V, madd, nmadd } from './simd';
import { weightPair } from './winograd4';

/** The points ±A, ±1 and ±C. */
const A: f32 = 0.5;
const C: f32 = 2;
const A2: f32 = A * A;
const C2: f32 = C * C;
/** Π (x − p) = x⁷ − S x⁵ + S x³ − x, since A² C² = 1 */
const S: f32 = A2 + 1 + C2;

/** Inputs of a tile's side. */
const IN: usize = 8;

/** The points along a side that it shares with F(2, 3), bit by bit: those of 0, ±1 and ∞. */
export const SHARED6: i32 = 0b10011001;

/**
 * Offsets of the constants, which follow the vectors in memory: V8 materializes a constant of the code at each use, in three
 * instructions.
 */
const AT: usize = IN * IN * V;
const AT_S: usize = AT;
const AT_A: usize = AT + V;
const AT_C: usize = AT + 2 * V;
const AT_A2: usize = AT + 3 * V;
const AT_C2: usize = AT + 4 * V;
const AT_1A2: usize = AT + 5 * V;
const AT_1C2: usize = AT + 6 * V;
const AT_A2C2: usize = AT + 7 * V;
const AT_A3: usize = AT + 8 * V;
const AT_C3: usize = AT + 9 * V;
const AT_A4: usize = AT + 10 * V;
const AT_C4: usize = AT + 11 * V;
const AT_A5: usize = AT + 12 * V;
const AT_C5: usize = AT + 13 * V;
const AT_SHORT: usize = AT + 14 * V;

/** Writes the constants after the 64 vectors. */
export function constants6(vectors: usize): void {
  v128.store(vectors, f32x4.splat(S), AT_S);
  v128.store(vectors, f32x4.splat(A), AT_A);
  v128.store(vectors, f32x4.splat(C), AT_C);
  v128.store(vectors, f32x4.splat(A2), AT_A2);
  v128.store(vectors, f32x4.splat(C2), AT_C2);
  v128.store(vectors, f32x4.splat(1 + A2), AT_1A2);
  v128.store(vectors, f32x4.splat(1 + C2), AT_1C2);
  v128.store(vectors, f32x4.splat(A2 + C2), AT_A2C2);
  v128.store(vectors, f32x4.splat(A * A2), AT_A3);
  v128.store(vectors, f32x4.splat(C * C2), AT_C3);
  v128.store(vectors, f32x4.splat(A2 * A2), AT_A4);
  v128.store(vectors, f32x4.splat(C2 * C2), AT_C4);
  v128.store(vectors, f32x4.splat(A * A2 * A2), AT_A5);
  v128.store(vectors, f32x4.splat(C * C2 * C2), AT_C5);
  v128.store(vectors, f32x4.splat((1 - A2) * (1 - C2)), AT_SHORT);
}

/** Bᵀ times a line of eight: the row of a point p has the coefficients of Π (x − other points). */
// @ts-ignore: decorator
@inline
export function inputLine6(from: usize, step: usize, out: usize, outStep: usize, vectors: usize): void {
  const d0 = v128.load(from);
  const d1 = v128.load(from + step);
  const d2 = v128.load(from + 2 * step);
  const d3 = v128.load(from + 3 * step);
  const d4 = v128.load(from + 4 * step);
  const d5 = v128.load(from + 5 * step);
  const d6 = v128.load(from + 6 * step);
  const d7 = v128.load(from + 7 * step);
  const s = v128.load(vectors, AT_S);
  v128.store(out, madd(f32x4.sub(d2, d4), s, f32x4.sub(d6, d0)));
  v128.store(out + 7 * outStep, madd(f32x4.sub(d3, d5), s, f32x4.sub(d7, d1)));
  let p = v128.load(vectors, AT_C2);
  let q = v128.load(vectors, AT_1C2);
  let r = v128.load(vectors, AT_A);
  const evenA = madd(d2, p, nmadd(d4, q, d6));
  const oddA = madd(d1, p, nmadd(d3, q, d5));
  v128.store(out + outStep, madd(oddA, r, evenA));
  v128.store(out + 2 * outStep, nmadd(oddA, r, evenA));
  q = v128.load(vectors, AT_A2C2);
  const even1 = nmadd(d4, q, f32x4.add(d2, d6));
  const odd1 = nmadd(d3, q, f32x4.add(d1, d5));
  v128.store(out + 3 * outStep, f32x4.add(even1, odd1));
  v128.store(out + 4 * outStep, f32x4.sub(even1, odd1));
  (p = v128.load(vectors, AT_A2)), (q = v128.load(vectors, AT_1A2)), (r = v128.load(vectors, AT_C));
  const evenC = madd(d2, p, nmadd(d4, q, d6));
  const oddC = madd(d1, p, nmadd(d3, q, d5));
  v128.store(out + 5 * outStep, madd(oddC, r, evenC));
  v128.store(out + 6 * outStep, nmadd(oddC, r, evenC));
}

/** Bᵀ of F(2, 3) times a line of four. The rows of ±1 are multiplied by (1 − A²)(1 − C²), by which G of F(6, 3) divides. */
// @ts-ignore: decorator
@inline
export function shortInput6(from: usize, step: usize, out: usize, outStep: usize, vectors: usize): void {
  const d0 = v128.load(from);
  const d1 = v128.load(from + step);
  const d2 = v128.load(from + 2 * step);
  const d3 = v128.load(from + 3 * step);
  const factor = v128.load(vectors, AT_SHORT);
  v128.store(out, f32x4.sub(d2, d0));
  v128.store(out + 3 * outStep, f32x4.mul(f32x4.add(d2, d1), factor));
  v128.store(out + 4 * outStep, f32x4.mul(f32x4.sub(d2, d1), factor));
  v128.store(out + 7 * outStep, f32x4.sub(d3, d1));
}

/** Aᵀ times a line of eight: row k has the k-th powers of the points. */
// @ts-ignore: decorator
@inline
export function outputLine6(from: usize, step: usize, out: usize, outStep: usize, vectors: usize): void {
  const m0 = v128.load(from);
  const m1 = v128.load(from + step);
  const m2 = v128.load(from + 2 * step);
  const m3 = v128.load(from + 3 * step);
  const m4 = v128.load(from + 4 * step);
  const m5 = v128.load(from + 5 * step);
  const m6 = v128.load(from + 6 * step);
  const m7 = v128.load(from + 7 * step);
  const sumA = f32x4.add(m1, m2);
  const sum1 = f32x4.add(m3, m4);
  const sumC = f32x4.add(m5, m6);
  v128.store(out, f32x4.add(f32x4.add(m0, sumA), f32x4.add(sum1, sumC)));
  const even2 = madd(sumA, v128.load(vectors, AT_A2), sum1);
  const even4 = madd(sumA, v128.load(vectors, AT_A4), sum1);
  v128.store(out + 2 * outStep, madd(sumC, v128.load(vectors, AT_C2), even2));
  v128.store(out + 4 * outStep, madd(sumC, v128.load(vectors, AT_C4), even4));
  const difA = f32x4.sub(m1, m2);
  const dif1 = f32x4.sub(m3, m4);
  const difC = f32x4.sub(m5, m6);
  const odd1 = madd(difA, v128.load(vectors, AT_A), dif1);
  const odd3 = madd(difA, v128.load(vectors, AT_A3), dif1);
  v128.store(out + outStep, madd(difC, v128.load(vectors, AT_C), odd1));
  v128.store(out + 3 * outStep, madd(difC, v128.load(vectors, AT_C3), odd3));
  const odd5 = madd(difA, v128.load(vectors, AT_A5), f32x4.add(dif1, m7));
  v128.store(out + 5 * outStep, madd(difC, v128.load(vectors, AT_C5), odd5));
}

/** Aᵀ of F(2, 3) times a line of four. */
// @ts-ignore: decorator
@inline
export function shortOutput6(from: usize, step: usize, out: usize, outStep: usize): void {
  const m0 = v128.load(from);
  const m1 = v128.load(from + 3 * step);
  const m2 = v128.load(from + 4 * step);
  const m3 = v128.load(from + 7 * step);
  v128.store(out, f32x4.add(m0, f32x4.add(m1, m2)));
  v128.store(out + outStep, f32x4.add(f32x4.sub(m1, m2), m3));
}

/** G times a line of three, as in winograd4.ts. */
// @ts-ignore: decorator
@inline
export function weight6(g0: v128, g1: v128, g2: v128, out: usize, step: usize): void {
  const a2: f64 = A2;
  const c2: f64 = C2;
  // −1 / (A² C²)
  v128.store(out, f64x2.neg(g0));
  weightPair(g0, g1, g2, A, 1 / (2 * a2 * (a2 - 1) * (a2 - c2)), out + step, step);
  weightPair(g0, g1, g2, 1, 1 / (2 * (1 - a2) * (1 - c2)), out + 3 * step, step);
  weightPair(g0, g1, g2, C, 1 / (2 * c2 * (c2 - a2) * (c2 - 1)), out + 5 * step, step);
  v128.store(out + 7 * step, g2);
}
