/*
 * The limits of this machine, for the roofline and for a kernel's share of the peak: the library's own micro-kernel with
 * everything it reads in L1, and a stream of reads from memory.
 */
import { V } from '../../assembly/simd';
import { MR, NR, ROW_ENTRY, gemm4x8, gemm6x8, sliceEnds } from '../../assembly/tile';

export { MR, NR };

/** Steps of K in a call: a panel of A and one of B are 14 KiB at most. */
export const K: i32 = 256;
/** Bytes that `peak` uses: the row table, C, A and B. */
export const PEAK_BYTES: i32 = <i32>ROW_ENTRY * 16 + MR * NR * 4 + K * (MR + NR) * 4;

/** `calls` (even) times one tile of MR × 8 over K = 256: calls · MR · 8 · 256 multiply-accumulates. */
export function peak(buffer: usize, calls: i32): void {
  const c = buffer + ROW_ENTRY * 16;
  const a = c + <usize>(MR * NR * 4);
  const b = a + <usize>(K * MR * 4);
  for (let row = 0; row < MR; row++) {
    store<usize>(buffer + <usize>row * ROW_ENTRY, a);
    store<usize>(buffer + <usize>row * ROW_ENTRY, c + <usize>(row * NR * 4), 4);
  }
  // Two calls, so that the compiler does not inline the tile's body here, where it would have fewer registers.
  for (let i = 0; i < calls; i += 2) {
    tile(buffer, a, b);
    tile(buffer, a, b);
  }
}

// @ts-ignore: decorator
@inline
function tile(rows: usize, a: usize, b: usize): void {
  // The first of two slices: sums start at zero, and there is no epilogue.
  const ends = sliceEnds(0, 2, 0);
  if (MR == 4) gemm4x8(rows, a, b, K, 0, 0, 1, ends);
  else gemm6x8(rows, a, b, K, 0, 0, 1, ends);
}

/** The sum of `bytes` bytes of float32, a multiple of 128, by vector loads in eight chains of additions. */
export function streamRead(from: usize, bytes: usize): f32 {
  let s0 = f32x4.splat(0);
  let s1 = s0;
  let s2 = s0;
  let s3 = s0;
  let s4 = s0;
  let s5 = s0;
  let s6 = s0;
  let s7 = s0;
  for (const end = from + bytes; from < end; from += 8 * V) {
    s0 = f32x4.add(s0, v128.load(from, 0 * V));
    s1 = f32x4.add(s1, v128.load(from, 1 * V));
    s2 = f32x4.add(s2, v128.load(from, 2 * V));
    s3 = f32x4.add(s3, v128.load(from, 3 * V));
    s4 = f32x4.add(s4, v128.load(from, 4 * V));
    s5 = f32x4.add(s5, v128.load(from, 5 * V));
    s6 = f32x4.add(s6, v128.load(from, 6 * V));
    s7 = f32x4.add(s7, v128.load(from, 7 * V));
  }
  s0 = f32x4.add(f32x4.add(f32x4.add(s0, s1), f32x4.add(s2, s3)), f32x4.add(f32x4.add(s4, s5), f32x4.add(s6, s7)));
  return f32x4.extract_lane(s0, 0) + f32x4.extract_lane(s0, 1) + f32x4.extract_lane(s0, 2) + f32x4.extract_lane(s0, 3);
}
