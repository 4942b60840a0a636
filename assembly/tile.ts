/*
 * gemm4x8 and gemm6x8: the micro-kernels, which keep a tile of MR rows × 8 columns of C in registers.
 *
 *   C[r, c] (+)= Σ k  a[k, r] · b[k, c],  then  · scale[c] + shift[c],  ReLU
 *
 * a is a packed panel (K, MR), b a packed panel (K, 8). The rest of a product exists to feed them.
 *
 * On x64 a function in V8 has 15 vector registers. With a fused multiply–add the loads fold into the step, and 6×8 fits.
 * With a separate product V8 moves all loads of a step to its front, so accumulators, b and a must fit together: 4×8. For
 * the same reason the loop over k is not unrolled.
 */
import { V, laneMask, madd, relu4 } from './simd';

/** Rows of a tile and of a packed panel of A; the last panels of a block may have four. */
export const MR: i32 = ASC_FEATURE_RELAXED_SIMD ? 6 : 4;
/** Columns of a tile and of a packed panel of B. */
export const NR: i32 = 8;

/** Bytes of an entry of the row table: the address of a row of A, then of a row of C. */
export const ROW_ENTRY: usize = 8;

/** Bytes of eight float32: a row of a panel of B, a row of a tile of C. */
export const EIGHT: usize = 2 * V;

/** Bytes of `rows` rows of a panel of B. */
// @ts-ignore: decorator
@inline
export function panelBytes(rows: i32): usize {
  return (<usize>rows) << 5;
}

/** Where the columns of panel number `panel` begin in a row of C, in bytes. */
// @ts-ignore: decorator
@inline
export function columnOffset(panel: i32): usize {
  return (<usize>panel) << 5;
}

/**
 * What is applied to a finished sum: `sum · scale + shift`, with a value per column, then ReLU if `relu` is not 0. Columns
 * from `outChannels` on, in the last panel, are written as zeros: a later product may multiply them, and a sum of weights
 * that do not exist could be 0 · ∞.
 */
@unmanaged
export class Epilogue {
  scale: usize;
  shift: usize;
  relu: i32;
  outChannels: i32;
}

/** The slice is the first of K: the accumulators start at zero instead of at C. */
const FIRST: usize = 1;

/**
 * How the sums of a slice of K begin and end: FIRST or 0, plus the address of the epilogue if the slice is the last one
 * and there is an epilogue. Addresses of structs are multiples of 4, so the two share a word.
 */
// @ts-ignore: decorator
@inline
export function sliceEnds(slice: i32, slices: i32, epilogue: usize): usize {
  return (slice == 0 ? FIRST : 0) | (slice == slices - 1 ? epilogue : 0);
}

/** The address of row i of A in the table. */
// @ts-ignore: decorator
@inline
export function rowA(rows: usize, i: usize): usize {
  return load<usize>(rows + i * ROW_ENTRY);
}

/** The address of row i of C in the table. */
// @ts-ignore: decorator
@inline
export function rowC(rows: usize, i: usize): usize {
  return load<usize>(rows + i * ROW_ENTRY, 4);
}

/** Zeros, from which the sums of a first slice start: nothing is written below FIRST_ADDRESS of src/wasm/plan/pages.ts. */
const ZEROS: usize = 64;

/**
 * The address from which the sums of row i start, eight columns. An `if` around the loads instead would keep V8's
 * revectorizer (see ARCHITECTURE.md) from joining them.
 */
// @ts-ignore: decorator
@inline
function sumsOf(rows: usize, i: usize, column: usize, ends: usize): usize {
  return ends & FIRST ? ZEROS : rowC(rows, i) + column;
}

/**
 * How many panels of four rows end a block of `count` rows. From seven rows on, at most one is then computed twice: 49 rows
 * are 7 · 6 + 2 · 4, not 9 · 6.
 */
// @ts-ignore: decorator
@inline
export function foursOf(count: i32): i32 {
  if (MR == 4) return 0;
  const rest = count % 6;
  return rest == 0 || rest == 5 ? 0 : rest > 2 || count < 6 ? 1 : 2;
}

/**
 * A row of tiles of six rows over one slice of K: for the panels of columns from `panel` to `last` − 1, whose slices lie
 * `gap` bytes apart. Inlined, since V8 11 (Node 20) spills accumulators with this loop in the function of the tile, which
 * takes twice the time.
 */
// @ts-ignore: decorator
@inline
export function gemm6x8(rows: usize, a: usize, b: usize, k: i32, gap: usize, panel: i32, last: i32, ends: usize): void {
  for (; panel < last; panel++) {
    tile6x8(rows, a, b, k, panel, ends);
    b += panelBytes(k) + gap;
  }
}

/**
 * Applies the epilogue to a tile that has just been stored. Within the tile it would be a little less work, but V8 11
 * (Node 20) then spills accumulators in the loop of the fused 6×8 tile, which takes twice the time.
 */
function applyEpilogue(rows: usize, count: usize, panel: i32, epilogue: Epilogue): void {
  const column = columnOffset(panel);
  const scale = epilogue.scale + column;
  const shift = epilogue.shift + column;
  const s0 = v128.load(scale);
  const s1 = v128.load(scale, V);
  const t0 = v128.load(shift);
  const t1 = v128.load(shift, V);
  const relu = epilogue.relu != 0;
  const left = epilogue.outChannels - panel * NR;
  const m0 = laneMask(left);
  const m1 = laneMask(left - 4);
  for (let row: usize = 0; row < count; row++) {
    // The rows that fill a block's last tile repeat the last row, whose epilogue is applied once.
    if (row + 1 < count && rowC(rows, row + 1) == rowC(rows, row)) continue;
    const p = rowC(rows, row) + column;
    let c0 = madd(v128.load(p), s0, t0);
    let c1 = madd(v128.load(p, V), s1, t1);
    if (relu) {
      c0 = relu4(c0);
      c1 = relu4(c1);
    }
    v128.store(p, v128.and(c0, m0));
    v128.store(p, v128.and(c1, m1), V);
  }
}

/**
 * As gemm6x8, of four rows. The loop over the panels is in this function, since V8 11 (Node 20) then saves a tenth of the
 * plain build's time.
 */
// biome-ignore format: a row of the tile a line
export function gemm4x8(
  rows: usize, from: usize, b: usize, k: i32, gap: usize, panel: i32, last: i32, ends: usize,
): void {
  for (; panel < last; panel++) {
    let a = from;
    const column = columnOffset(panel);
    let p = sumsOf(rows, 0, column, ends);
    let c00 = v128.load(p), c01 = v128.load(p, V);
    p = sumsOf(rows, 1, column, ends);
    let c10 = v128.load(p), c11 = v128.load(p, V);
    p = sumsOf(rows, 2, column, ends);
    let c20 = v128.load(p), c21 = v128.load(p, V);
    p = sumsOf(rows, 3, column, ends);
    let c30 = v128.load(p), c31 = v128.load(p, V);
    for (const end = b + panelBytes(k); b < end; b += 2 * V) {
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
    if (ends > FIRST) applyEpilogue(rows, 4, panel, changetype<Epilogue>(ends & ~FIRST));
  }
}

/** One tile of six rows. */
// biome-ignore format: a row of the tile a line
function tile6x8(rows: usize, a: usize, b: usize, k: i32, panel: i32, ends: usize): void {
  const column = columnOffset(panel);
  let p = sumsOf(rows, 0, column, ends);
  let c00 = v128.load(p), c01 = v128.load(p, V);
  p = sumsOf(rows, 1, column, ends);
  let c10 = v128.load(p), c11 = v128.load(p, V);
  p = sumsOf(rows, 2, column, ends);
  let c20 = v128.load(p), c21 = v128.load(p, V);
  p = sumsOf(rows, 3, column, ends);
  let c30 = v128.load(p), c31 = v128.load(p, V);
  p = sumsOf(rows, 4, column, ends);
  let c40 = v128.load(p), c41 = v128.load(p, V);
  p = sumsOf(rows, 5, column, ends);
  let c50 = v128.load(p), c51 = v128.load(p, V);
  for (const end = b + panelBytes(k); b < end; b += 2 * V) {
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
  if (ends > FIRST) applyEpilogue(rows, 6, panel, changetype<Epilogue>(ends & ~FIRST));
}
