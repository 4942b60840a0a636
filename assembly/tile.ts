/*
 * The micro-kernels: a tile of MR rows × 8 columns of C in registers,
 *
 *   C[r, c] (+)= Σ k  a[k, r] · b[k, c],  then  · scale[c] + shift[c],  ReLU
 *
 * with `a` a packed panel (K, MR) and `b` a packed panel (K, 8). Everything else exists to feed them.
 *
 * On x64 a function in V8 has 15 vector registers to itself. With a fused multiply and add the loads fold into
 * the step and 6×8 fits. With a separate product V8 moves all loads of a step to its front, so that accumulators,
 * b and a must fit together: 4×8. For the same reason the loop over k is not unrolled.
 */
import { V, laneMask, madd, relu4 } from './simd';

/** Rows of a tile and of a packed panel of A; the last panels of a block may have four. */
export const MR: i32 = ASC_FEATURE_RELAXED_SIMD ? 6 : 4;
/** Columns of a tile and of a packed panel of B. */
export const NR: i32 = 8;

/** Bytes of an entry of the row table: the address of a row of A, then of a row of C. */
export const ROW: usize = 8;

/** The slice is the first of K: the accumulators start at zero instead of at C. */
const FIRST: i32 = 1;
/** The slice is the last of K: the epilogue, if there is one, is applied. */
const LAST: i32 = 2;

/** Zero if there is no epilogue. */
let epilogueScale: usize = 0;
let epilogueShift: usize = 0;
let epilogueRelu: bool = false;
let epilogueColumns: i32 = 0;

/**
 * What becomes of a finished sum: `sum · scale + shift`, with a value per column, then ReLU if asked for; nothing if
 * `scale` is 0.
 * Columns from `columns` on, in the last panel, are written as zeros: a later product may multiply them, and
 * what stands there could be 0 · ∞.
 */
export function setEpilogue(scale: usize, shift: usize, relu: bool, columns: i32): void {
  epilogueScale = scale;
  epilogueShift = shift;
  epilogueRelu = relu;
  epilogueColumns = columns;
}

/** The mode of a slice of K by its place among the slices. */
// @ts-ignore: decorator
@inline
export function sliceMode(slice: i32, slices: i32): i32 {
  return (slice == 0 ? FIRST : 0) | (slice == slices - 1 && epilogueScale != 0 ? LAST : 0);
}

/** The address of row i of A in the table. */
// @ts-ignore: decorator
@inline
export function rowA(rows: usize, i: usize): usize {
  return load<usize>(rows + i * ROW);
}

/** The address of row i of C in the table. */
// @ts-ignore: decorator
@inline
export function rowC(rows: usize, i: usize): usize {
  return load<usize>(rows + i * ROW, 4);
}

/** Zeros, from which the sums of a first slice start: nothing is ever written below FIRST_ADDRESS of src/wasm/plan/pages.ts. */
const ZEROS: usize = 64;

/**
 * Where the sums of row i start from, eight columns. An address, since an `if` around the loads keeps V8's revectoriser
 * (see ARCHITECTURE.md) from joining them.
 */
// @ts-ignore: decorator
@inline
function sumsOf(rows: usize, i: usize, column: usize, mode: i32): usize {
  return mode & FIRST ? ZEROS : rowC(rows, i) + column;
}

/**
 * How many panels of four rows end a block of `count` rows, so that at most one row is computed twice from seven rows
 * on: 49 rows are 7 · 6 + 2 · 4, and not 9 · 6.
 */
// @ts-ignore: decorator
@inline
export function foursOf(count: i32): i32 {
  if (MR == 4) return 0;
  const rest = count % 6;
  return rest == 0 || rest == 5 ? 0 : rest > 2 || count < 6 ? 1 : 2;
}

/**
 * A row of tiles, `height` rows high (MR or four), over one slice of K: those of the panels of columns from `panel` to
 * `last` − 1, between whose slices lie `gap` bytes.
 */
// @ts-ignore: decorator
@inline
export function tiles(
  rows: usize, height: i32, a: usize, b: usize, k: i32, gap: usize, panel: i32, last: i32, mode: i32,
): void {
  if (MR == 4 || height == 4) {
    tiles4x8(rows, a, b, k, gap, panel, last, mode);
    return;
  }
  // With this loop in the function V8 11 spills accumulators, which takes twice the time.
  for (; panel < last; panel++) {
    tile6x8(rows, a, b, k, panel, mode);
    b += (<usize>k << 5) + gap;
  }
}

/**
 * The epilogue of a tile that has just been stored. Inside the tile it would be a little less work, but V8 11 (Node 20)
 * then spills accumulators in the loop of the fused 6×8 tile, which takes twice the time.
 */
function finish(rows: usize, count: usize, panel: i32): void {
  const column = <usize>panel << 5;
  const s0 = v128.load(epilogueScale + column), s1 = v128.load(epilogueScale + column, V);
  const t0 = v128.load(epilogueShift + column), t1 = v128.load(epilogueShift + column, V);
  const left = epilogueColumns - panel * 8;
  const m0 = laneMask(left), m1 = laneMask(left - 4);
  for (let row: usize = 0; row < count; row++) {
    // Rows that fill a block's last tile are the last row again, which is finished once.
    if (row + 1 < count && rowC(rows, row + 1) == rowC(rows, row)) continue;
    const p = rowC(rows, row) + column;
    let c0 = madd(v128.load(p), s0, t0), c1 = madd(v128.load(p, V), s1, t1);
    if (epilogueRelu) {
      c0 = relu4(c0);
      c1 = relu4(c1);
    }
    v128.store(p, v128.and(c0, m0));
    v128.store(p, v128.and(c1, m1), V);
  }
}

/** Tiles of four rows. The loop over them is in here, since V8 11 takes a tenth of the plain build's time otherwise. */
function tiles4x8(
  rows: usize, from: usize, b: usize, k: i32, gap: usize, panel: i32, last: i32, mode: i32,
): void {
  for (; panel < last; panel++) {
    let a = from;
    const column = <usize>panel << 5;
    let p = sumsOf(rows, 0, column, mode);
    let c00 = v128.load(p), c01 = v128.load(p, V);
    p = sumsOf(rows, 1, column, mode);
    let c10 = v128.load(p), c11 = v128.load(p, V);
    p = sumsOf(rows, 2, column, mode);
    let c20 = v128.load(p), c21 = v128.load(p, V);
    p = sumsOf(rows, 3, column, mode);
    let c30 = v128.load(p), c31 = v128.load(p, V);
    for (const end = b + (<usize>k << 5); b < end; b += 2 * V) {
      const b0 = v128.load(b), b1 = v128.load(b, V);
      let x = v128.load_splat<f32>(a, 0); c00 = madd(x, b0, c00); c01 = madd(x, b1, c01);
      x = v128.load_splat<f32>(a, 4); c10 = madd(x, b0, c10); c11 = madd(x, b1, c11);
      x = v128.load_splat<f32>(a, 8); c20 = madd(x, b0, c20); c21 = madd(x, b1, c21);
      x = v128.load_splat<f32>(a, 12); c30 = madd(x, b0, c30); c31 = madd(x, b1, c31);
      a += 16;
    }
    p = rowC(rows, 0) + column;
    v128.store(p, c00); v128.store(p, c01, V);
    p = rowC(rows, 1) + column;
    v128.store(p, c10); v128.store(p, c11, V);
    p = rowC(rows, 2) + column;
    v128.store(p, c20); v128.store(p, c21, V);
    p = rowC(rows, 3) + column;
    v128.store(p, c30); v128.store(p, c31, V);
    b += gap;
    if (mode & LAST) finish(rows, 4, panel);
  }
}

/** One tile of six rows. */
function tile6x8(rows: usize, a: usize, b: usize, k: i32, panel: i32, mode: i32): void {
  const column = <usize>panel << 5;
  let p = sumsOf(rows, 0, column, mode);
  let c00 = v128.load(p), c01 = v128.load(p, V);
  p = sumsOf(rows, 1, column, mode);
  let c10 = v128.load(p), c11 = v128.load(p, V);
  p = sumsOf(rows, 2, column, mode);
  let c20 = v128.load(p), c21 = v128.load(p, V);
  p = sumsOf(rows, 3, column, mode);
  let c30 = v128.load(p), c31 = v128.load(p, V);
  p = sumsOf(rows, 4, column, mode);
  let c40 = v128.load(p), c41 = v128.load(p, V);
  p = sumsOf(rows, 5, column, mode);
  let c50 = v128.load(p), c51 = v128.load(p, V);
  for (const end = b + (<usize>k << 5); b < end; b += 2 * V) {
    const b0 = v128.load(b), b1 = v128.load(b, V);
    let x = v128.load_splat<f32>(a, 0); c00 = madd(x, b0, c00); c01 = madd(x, b1, c01);
    x = v128.load_splat<f32>(a, 4); c10 = madd(x, b0, c10); c11 = madd(x, b1, c11);
    x = v128.load_splat<f32>(a, 8); c20 = madd(x, b0, c20); c21 = madd(x, b1, c21);
    x = v128.load_splat<f32>(a, 12); c30 = madd(x, b0, c30); c31 = madd(x, b1, c31);
    x = v128.load_splat<f32>(a, 16); c40 = madd(x, b0, c40); c41 = madd(x, b1, c41);
    x = v128.load_splat<f32>(a, 20); c50 = madd(x, b0, c50); c51 = madd(x, b1, c51);
    a += 24;
  }
  p = rowC(rows, 0) + column;
  v128.store(p, c00); v128.store(p, c01, V);
  p = rowC(rows, 1) + column;
  v128.store(p, c10); v128.store(p, c11, V);
  p = rowC(rows, 2) + column;
  v128.store(p, c20); v128.store(p, c21, V);
  p = rowC(rows, 3) + column;
  v128.store(p, c30); v128.store(p, c31, V);
  p = rowC(rows, 4) + column;
  v128.store(p, c40); v128.store(p, c41, V);
  p = rowC(rows, 5) + column;
  v128.store(p, c50); v128.store(p, c51, V);
  if (mode & LAST) finish(rows, 6, panel);
}
