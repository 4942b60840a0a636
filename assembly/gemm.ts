/*
 * The packed product under every convolution: C[M, N] = epilogue(A[M, K] · B[K, N]), float32.
 *
 * B comes packed in panels of 8 columns: (⌈N/8⌉, K, 8), zero-filled past N. A and C are reached through a table of
 * row addresses, so that a convolution's rows may be any pixels of an image and no im2col matrix is built (the
 * indirect algorithm: Dukhan, "The Indirect Convolution Algorithm", 2019). The rows of A of one block and one slice
 * of K are packed in panels of MR rows just before use.
 *
 * The loops are those of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008, with the
 * operands changed: a packed panel of A (12 KiB) stays in L1, a group of panels of B in L2, a tile of C in registers. B is
 * the larger one, is packed long before, and often comes from memory, which gives it faster in long runs.
 */
import { V } from './simd';
import { MR, NR, ROW, foursOf, rowA, sliceMode, tiles } from './tile';

/** Most steps of K in a slice, between a load and a store of the accumulators. */
export const KC: i32 = 512;
/** Bytes of a slice of the panels of B that all rows of a block go through before the next ones do. */
const GROUP: i32 = 256 << 10;
/** Rows of a block: a multiple of both tiles' rows. */
export const MC: i32 = 120;
/** Bytes of scratch that a product needs: a table of MC rows, and the packed block of A. */
export const SCRATCH: i32 = MC * <i32>ROW + MC * KC * 4;

/**
 * One block: `count` ≤ MC rows of the table at `rows`, times panels `first` to `last` − 1 of B. Each row of A is
 * `runs` runs of `length` consecutive values, `stride` bytes apart, so K = runs · length. The entries that the last
 * tile has over are filled with the last row, which is then computed more than once, to the same result.
 */
export function gemmBlock(
  rows: usize, count: i32, b: usize, first: i32, last: i32, runs: i32, length: i32, stride: usize,
): void {
  const fours = foursOf(count);
  // Rows in panels of MR, and with those in panels of four.
  const high = ((count - 4 * fours + MR - 1) / MR) * MR, all = high + 4 * fours;
  for (; count < all; count++) memory.copy(rows + <usize>count * ROW, rows + <usize>(count - 1) * ROW, ROW);
  const packed = rows + <usize>MC * ROW;
  const k = runs * length;
  // A short K is one slice over all runs; a long one is cut evenly within each run.
  const whole = k <= KC;
  const parts = whole ? 1 : (length + KC - 1) / KC;
  const slices = whole ? 1 : runs * parts;
  for (let slice = 0; slice < slices; slice++) {
    const run = slice / parts, part = slice % parts;
    const from = (part * length) / parts, to = ((part + 1) * length) / parts;
    const steps = whole ? k : to - from;
    for (let row = 0; row < all; ) {
      const height = row < high ? MR : 4;
      let panel = packed + (<usize>(row * steps) << 2);
      const entries = rows + <usize>row * ROW;
      if (whole) {
        for (let i = 0; i < runs; i++) {
          packRows(entries, height, <usize>i * stride, length, panel);
          panel += <usize>(height * length) << 2;
        }
      } else {
        packRows(entries, height, <usize>run * stride + (<usize>from << 2), steps, panel);
      }
      row += height;
    }
    const mode = sliceMode(slice, slices);
    const slab = b + (<usize>(run * length + from) << 5);
    const group = max(1, GROUP / (steps << 5));
    for (let start = first; start < last; start += group) {
      const end = min(last, start + group);
      for (let row = 0; row < all; ) {
        const height = row < high ? MR : 4;
        const entries = rows + <usize>row * ROW, a = packed + (<usize>(row * steps) << 2);
        const columns = slab + (<usize>start * <usize>k << 5), gap = <usize>(k - steps) << 5;
        tiles(entries, height, a, columns, steps, gap, start, end, mode);
        row += height;
      }
    }
  }
}

/** Panels of `n` columns. */
// @ts-ignore: decorator
@inline
export function panelsOf(n: i32): i32 {
  return (n + NR - 1) / NR;
}

/** Packs `count` values from `offset` bytes on of `height` rows, 4 or MR, as (count, height). */
function packRows(rows: usize, height: i32, offset: usize, count: i32, out: usize): void {
  const six = MR > 4 && height > 4;
  let a0 = rowA(rows, 0) + offset, a1 = rowA(rows, 1) + offset;
  let a2 = rowA(rows, 2) + offset, a3 = rowA(rows, 3) + offset;
  let a4 = six ? rowA(rows, 4) + offset : 0, a5 = six ? rowA(rows, 5) + offset : 0;
  const step = <usize>height << 2;
  const end = a0 + (<usize>count << 2), end4 = a0 + (<usize>(count & ~3) << 2);
  while (a0 < end4) {
    // Rows 0 to 3 by a 4×4 transpose, 4 and 5 by half of one.
    const r0 = v128.load(a0), r1 = v128.load(a1), r2 = v128.load(a2), r3 = v128.load(a3);
    const r01 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5), r23 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
    const s01 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7), s23 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    v128.store(out, v128.shuffle<f32>(r01, r23, 0, 1, 4, 5));
    v128.store(out + step, v128.shuffle<f32>(r01, r23, 2, 3, 6, 7));
    v128.store(out + 2 * step, v128.shuffle<f32>(s01, s23, 0, 1, 4, 5));
    v128.store(out + 3 * step, v128.shuffle<f32>(s01, s23, 2, 3, 6, 7));
    if (six) {
      const r4 = v128.load(a4), r5 = v128.load(a5);
      const r45 = v128.shuffle<f32>(r4, r5, 0, 4, 1, 5), s45 = v128.shuffle<f32>(r4, r5, 2, 6, 3, 7);
      v128.store64_lane(out, r45, 0, 16);
      v128.store64_lane(out + step, r45, 1, 16);
      v128.store64_lane(out + 2 * step, s45, 0, 16);
      v128.store64_lane(out + 3 * step, s45, 1, 16);
      a4 += V; a5 += V;
    }
    a0 += V; a1 += V; a2 += V; a3 += V;
    out += 4 * step;
  }
  while (a0 < end) {
    store<f32>(out, load<f32>(a0));
    store<f32>(out, load<f32>(a1), 4);
    store<f32>(out, load<f32>(a2), 8);
    store<f32>(out, load<f32>(a3), 12);
    if (six) {
      store<f32>(out, load<f32>(a4), 16);
      store<f32>(out, load<f32>(a5), 20);
      a4 += 4; a5 += 4;
    }
    a0 += 4; a1 += 4; a2 += 4; a3 += 4;
    out += step;
  }
}

/**
 * C[M, N] = A[M, K] · B[K, N] for row-major A and C with rows of `lda` and `ldc` values (`ldc` a multiple of 8, at
 * least N) and packed B. `setEpilogue` comes first; `scratch` has SCRATCH bytes.
 */
export function gemm(m: i32, n: i32, k: i32, a: usize, lda: i32, b: usize, c: usize, ldc: i32, scratch: usize): void {
  for (let first = 0; first < m; first += MC) {
    const count = min(MC, m - first);
    for (let i = 0; i < count; i++) {
      const row = <usize>(first + i), entry = scratch + <usize>i * ROW;
      store<usize>(entry, a + ((row * <usize>lda) << 2));
      store<usize>(entry, c + ((row * <usize>ldc) << 2), 4);
    }
    gemmBlock(scratch, count, b, 0, panelsOf(n), 1, k, 0);
  }
}

/** Packs a row-major B[K, N] into panels (⌈N/8⌉, K, 8). */
export function packB(k: i32, n: i32, b: usize, packed: usize): void {
  for (let panel = 0; panel < n; panel += NR) {
    for (let row = 0; row < k; row++) {
      for (let lane = 0; lane < NR; lane++) {
        const column = panel + lane;
        store<f32>(packed, column < n ? load<f32>(b + (<usize>(row * n + column) << 2)) : 0);
        packed += 4;
      }
    }
  }
}
