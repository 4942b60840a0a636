/*
 * The packed product under every convolution: C[M, N] = epilogue(A[M, K] · B[K, N]), float32.
 *
 * B comes packed in panels of 8 columns: (⌈N/8⌉, K, 8), with zeros past N. A and C are reached through a table of row
 * addresses, so that a convolution's rows can be any pixels of an image and no im2col matrix is built (Dukhan, "The
 * Indirect Convolution Algorithm", 2019). The rows of A of one block and one slice of K are packed in panels of MR rows
 * just before they are used.
 *
 * The loops are those of Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", 2008, with the roles
 * of the operands swapped: a packed panel of A (12 KiB) stays in L1, a group of panels of B in L2, a tile of C in
 * registers. B is the larger operand, is packed long before, and often comes from memory, which is faster in long runs.
 */
import { V, floatBytes } from './simd';
import { Epilogue, MR, NR, ROW_ENTRY, foursOf, gemm4x8, gemm6x8, panelBytes, rowA, sliceEnds } from './tile';

/** Most steps of K in a slice, between a load and a store of the accumulators. */
export const KC: i32 = 512;
/** Bytes of a slice of the panels of B that all rows of a block go through before the next panels do. */
const PANEL_GROUP_BYTES: i32 = 256 << 10;
/** Most rows of a block: a multiple of both tiles' rows. */
export const MC: i32 = 120;

/** A product whose blocks of rows `gemmBlock` computes. It lies at the start of a thread's scratch. */
@unmanaged
export class Product {
  /** B, in panels. */
  b: usize;
  /** Each row of A is `runs` runs of `length` consecutive values, `stride` bytes apart, so K = runs · length. */
  runs: i32;
  length: i32;
  stride: usize;
  /** The address of an `Epilogue`, or 0. */
  epilogue: usize;
}

/** Bytes of a thread's scratch before the row table: a `Product`, and the rest of its cache line. */
const PRODUCT_BYTES: usize = 64;
/** Bytes of scratch that a product needs: itself, a table of MC rows, and the packed block of A. */
export const SCRATCH: i32 = <i32>PRODUCT_BYTES + MC * <i32>ROW_ENTRY + MC * KC * 4;

/** Describes a product in a thread's scratch, for `gemmBlock`. */
export function setProduct(scratch: usize, b: usize, runs: i32, length: i32, stride: usize, epilogue: usize): void {
  const product = changetype<Product>(scratch);
  product.b = b;
  product.runs = runs;
  product.length = length;
  product.stride = stride;
  product.epilogue = epilogue;
}

/** The address of entry number `row` of the row table in a thread's scratch. */
// @ts-ignore: decorator
@inline
export function rowEntry(scratch: usize, row: i32): usize {
  return scratch + PRODUCT_BYTES + <usize>row * ROW_ENTRY;
}

/** Writes an entry of the row table. */
// @ts-ignore: decorator
@inline
export function setRow(entry: usize, a: usize, c: usize): void {
  store<usize>(entry, a);
  store<usize>(entry, c, 4);
}

/**
 * One block of the product in `scratch`: the first `count` ≤ MC rows of the table times panels `first` to `last` − 1 of B.
 * The last tile's missing entries repeat the last row, which is then computed more than once, to the same result.
 */
export function gemmBlock(scratch: usize, count: i32, first: i32, last: i32): void {
  const product = changetype<Product>(scratch);
  const b = product.b;
  const runs = product.runs;
  const length = product.length;
  const stride = product.stride;
  const rows = rowEntry(scratch, 0);
  const fours = foursOf(count);
  // Rows in panels of MR, and with those in panels of four.
  const high = ((count - 4 * fours + MR - 1) / MR) * MR;
  const all = high + 4 * fours;
  for (; count < all; count++) memory.copy(rowEntry(scratch, count), rowEntry(scratch, count - 1), ROW_ENTRY);
  const packed = rows + <usize>MC * ROW_ENTRY;
  const k = runs * length;
  // A short K is one slice over all runs; a long one is divided evenly within each run.
  const whole = k <= KC;
  const parts = whole ? 1 : (length + KC - 1) / KC;
  const slices = whole ? 1 : runs * parts;
  for (let slice = 0; slice < slices; slice++) {
    const run = slice / parts;
    const part = slice % parts;
    const from = (part * length) / parts;
    const to = ((part + 1) * length) / parts;
    const steps = whole ? k : to - from;
    for (let row = 0; row < all; ) {
      const height = row < high ? MR : 4;
      let panel = packed + floatBytes(row * steps);
      const entries = rows + <usize>row * ROW_ENTRY;
      if (whole) {
        for (let i = 0; i < runs; i++) {
          packRows(entries, height, <usize>i * stride, length, panel);
          panel += floatBytes(height * length);
        }
      } else {
        packRows(entries, height, <usize>run * stride + floatBytes(from), steps, panel);
      }
      row += height;
    }
    const ends = sliceEnds(slice, slices, product.epilogue);
    const slab = b + panelBytes(run * length + from);
    const group = max(1, PANEL_GROUP_BYTES / <i32>panelBytes(steps));
    for (let start = first; start < last; start += group) {
      const end = min(last, start + group);
      for (let row = 0; row < all; ) {
        const height = row < high ? MR : 4;
        const entries = rows + <usize>row * ROW_ENTRY;
        const a = packed + floatBytes(row * steps);
        const columns = slab + panelBytes(start * k);
        const gap = panelBytes(k - steps);
        if (MR == 4 || height == 4) gemm4x8(entries, a, columns, steps, gap, start, end, ends);
        else gemm6x8(entries, a, columns, steps, gap, start, end, ends);
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
  let a0 = rowA(rows, 0) + offset;
  let a1 = rowA(rows, 1) + offset;
  let a2 = rowA(rows, 2) + offset;
  let a3 = rowA(rows, 3) + offset;
  let a4 = six ? rowA(rows, 4) + offset : 0;
  let a5 = six ? rowA(rows, 5) + offset : 0;
  const step = floatBytes(height);
  const end = a0 + floatBytes(count);
  const end4 = a0 + floatBytes(count & ~3);
  while (a0 < end4) {
    // Rows 0 to 3 by a 4×4 transpose, 4 and 5 by half of one.
    const r0 = v128.load(a0);
    const r1 = v128.load(a1);
    const r2 = v128.load(a2);
    const r3 = v128.load(a3);
    const r01 = v128.shuffle<f32>(r0, r1, 0, 4, 1, 5);
    const r23 = v128.shuffle<f32>(r2, r3, 0, 4, 1, 5);
    const s01 = v128.shuffle<f32>(r0, r1, 2, 6, 3, 7);
    const s23 = v128.shuffle<f32>(r2, r3, 2, 6, 3, 7);
    v128.store(out, v128.shuffle<f32>(r01, r23, 0, 1, 4, 5));
    v128.store(out + step, v128.shuffle<f32>(r01, r23, 2, 3, 6, 7));
    v128.store(out + 2 * step, v128.shuffle<f32>(s01, s23, 0, 1, 4, 5));
    v128.store(out + 3 * step, v128.shuffle<f32>(s01, s23, 2, 3, 6, 7));
    if (six) {
      const r4 = v128.load(a4);
      const r5 = v128.load(a5);
      const r45 = v128.shuffle<f32>(r4, r5, 0, 4, 1, 5);
      const s45 = v128.shuffle<f32>(r4, r5, 2, 6, 3, 7);
      v128.store64_lane(out, r45, 0, 16);
      v128.store64_lane(out + step, r45, 1, 16);
      v128.store64_lane(out + 2 * step, s45, 0, 16);
      v128.store64_lane(out + 3 * step, s45, 1, 16);
      a4 += V;
      a5 += V;
    }
    a0 += V;
    a1 += V;
    a2 += V;
    a3 += V;
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
      a4 += 4;
      a5 += 4;
    }
    a0 += 4;
    a1 += 4;
    a2 += 4;
    a3 += 4;
    out += step;
  }
}

@unmanaged
export class GemmArgs extends Epilogue {
  m: i32;
  /** Columns of B and C. */
  n: i32;
  k: i32;
  a: usize;
  /** Values of a row of A. */
  lda: i32;
  /** Packed: (⌈N/8⌉, K, 8). */
  b: usize;
  c: usize;
  /** Values of a row of C: a multiple of 8, at least N. */
  ldc: i32;
  /** SCRATCH bytes. */
  scratch: usize;
}

/** C[M, N] = epilogue(A[M, K] · B[K, N]) with row-major A and C, for the benchmark. */
export function gemm(args: GemmArgs): void {
  const scratch = args.scratch;
  setProduct(scratch, args.b, 1, args.k, 0, changetype<usize>(args));
  for (let first = 0; first < args.m; first += MC) {
    const count = min(MC, args.m - first);
    for (let i = 0; i < count; i++) {
      const row = first + i;
      setRow(rowEntry(scratch, i), args.a + floatBytes(row * args.lda), args.c + floatBytes(row * args.ldc));
    }
    gemmBlock(scratch, count, 0, panelsOf(args.n));
  }
}
