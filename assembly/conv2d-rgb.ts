/*
 * conv2d of an image's three channels. As in conv2d.ts, but no rows are packed: the pixels of a tile lie side by side in
 * the input, and one pointer reaches them all. K is 27, too short for a loop over C to load and store sums or for an
 * epilogue of its own: both stay in registers. The sums have the same order, and so the same bits.
 */
import { Conv2dArgs } from './conv2d';
import { panelsOf } from './gemm';
import { V, madd, relu4 } from './simd';
import { cut } from './team';
import { MR, NR } from './tile';

/** Bytes of a row of the 3×3 window. */
const ROW: usize = 36;

/** True for what `conv2dRgb` takes: rows as wide as a tile, and output channels that fill their panels. */
export function isRgb(args: Conv2dArgs): bool {
  return args.inStride == 3 && args.width >= MR && args.outChannels % NR == 0;
}

export function conv2dRgb(args: Conv2dArgs, thread: i32, threads: i32): void {
  const width = args.width, height = args.height, panels = panelsOf(args.outChannels);
  const inRow = <usize>(width + 2) * 12, pixel = <usize>args.outStride << 2, outRow = <usize>(width + 2) * pixel;
  const lines = args.pixels / width;
  const first = cut(lines, 1, thread, threads), last = cut(lines, 1, thread + 1, threads);
  for (let line = first; line < last; line++) {
    const n = line / height, y = line % height;
    const from = args.input + <usize>(n * (height + 2) + y) * inRow;
    const to = args.output + <usize>(n * (height + 2) + y + 1) * outRow + pixel;
    for (let at = 0; at < width; at += MR) {
      // The last tile overlaps the one before it, and computes some pixels again.
      const x = min(at, width - MR);
      const a = from + <usize>x * 12, c = to + <usize>x * pixel;
      for (let panel = 0; panel < panels; panel++) {
        const column = <usize>panel << 5, b = args.weights + <usize>panel * (27 * 2 * V);
        if (MR == 6) rgb6x8(a, inRow, b, c + column, pixel, args.scale + column, args.shift + column, args.relu != 0);
        else rgb4x8(a, inRow, b, c + column, pixel, args.scale + column, args.shift + column, args.relu != 0);
      }
    }
  }
}

/** 6 pixels side by side, from the window's corner `a` on, times a panel of weights. */
function rgb6x8(a: usize, row: usize, b: usize, c: usize, pixel: usize, scale: usize, shift: usize, relu: bool): void {
  let c00 = f32x4.splat(0), c01 = c00;
  let c10 = c00, c11 = c00;
  let c20 = c00, c21 = c00;
  let c30 = c00, c31 = c00;
  let c40 = c00, c41 = c00;
  let c50 = c00, c51 = c00;
  for (const end = b + 27 * 2 * V; b < end; a += row - ROW) {
    for (const next = a + ROW; a < next; a += 4) {
      const b0 = v128.load(b), b1 = v128.load(b, V);
      let x = v128.load_splat<f32>(a, 0); c00 = madd(x, b0, c00); c01 = madd(x, b1, c01);
      x = v128.load_splat<f32>(a, 12); c10 = madd(x, b0, c10); c11 = madd(x, b1, c11);
      x = v128.load_splat<f32>(a, 24); c20 = madd(x, b0, c20); c21 = madd(x, b1, c21);
      x = v128.load_splat<f32>(a, 36); c30 = madd(x, b0, c30); c31 = madd(x, b1, c31);
      x = v128.load_splat<f32>(a, 48); c40 = madd(x, b0, c40); c41 = madd(x, b1, c41);
      x = v128.load_splat<f32>(a, 60); c50 = madd(x, b0, c50); c51 = madd(x, b1, c51);
      b += 2 * V;
    }
  }
  const s0 = v128.load(scale), s1 = v128.load(scale, V), t0 = v128.load(shift), t1 = v128.load(shift, V);
  c00 = madd(c00, s0, t0); c01 = madd(c01, s1, t1);
  c10 = madd(c10, s0, t0); c11 = madd(c11, s1, t1);
  c20 = madd(c20, s0, t0); c21 = madd(c21, s1, t1);
  c30 = madd(c30, s0, t0); c31 = madd(c31, s1, t1);
  c40 = madd(c40, s0, t0); c41 = madd(c41, s1, t1);
  c50 = madd(c50, s0, t0); c51 = madd(c51, s1, t1);
  if (relu) {
    c00 = relu4(c00); c01 = relu4(c01);
    c10 = relu4(c10); c11 = relu4(c11);
    c20 = relu4(c20); c21 = relu4(c21);
    c30 = relu4(c30); c31 = relu4(c31);
    c40 = relu4(c40); c41 = relu4(c41);
    c50 = relu4(c50); c51 = relu4(c51);
  }
  v128.store(c, c00); v128.store(c, c01, V); c += pixel;
  v128.store(c, c10); v128.store(c, c11, V); c += pixel;
  v128.store(c, c20); v128.store(c, c21, V); c += pixel;
  v128.store(c, c30); v128.store(c, c31, V); c += pixel;
  v128.store(c, c40); v128.store(c, c41, V); c += pixel;
  v128.store(c, c50); v128.store(c, c51, V);
}

/** 4 pixels side by side, from the window's corner `a` on, times a panel of weights. */
function rgb4x8(a: usize, row: usize, b: usize, c: usize, pixel: usize, scale: usize, shift: usize, relu: bool): void {
  let c00 = f32x4.splat(0), c01 = c00;
  let c10 = c00, c11 = c00;
  let c20 = c00, c21 = c00;
  let c30 = c00, c31 = c00;
  for (const end = b + 27 * 2 * V; b < end; a += row - ROW) {
    for (const next = a + ROW; a < next; a += 4) {
      const b0 = v128.load(b), b1 = v128.load(b, V);
      let x = v128.load_splat<f32>(a, 0); c00 = madd(x, b0, c00); c01 = madd(x, b1, c01);
      x = v128.load_splat<f32>(a, 12); c10 = madd(x, b0, c10); c11 = madd(x, b1, c11);
      x = v128.load_splat<f32>(a, 24); c20 = madd(x, b0, c20); c21 = madd(x, b1, c21);
      x = v128.load_splat<f32>(a, 36); c30 = madd(x, b0, c30); c31 = madd(x, b1, c31);
      b += 2 * V;
    }
  }
  const s0 = v128.load(scale), s1 = v128.load(scale, V), t0 = v128.load(shift), t1 = v128.load(shift, V);
  c00 = madd(c00, s0, t0); c01 = madd(c01, s1, t1);
  c10 = madd(c10, s0, t0); c11 = madd(c11, s1, t1);
  c20 = madd(c20, s0, t0); c21 = madd(c21, s1, t1);
  c30 = madd(c30, s0, t0); c31 = madd(c31, s1, t1);
  if (relu) {
    c00 = relu4(c00); c01 = relu4(c01);
    c10 = relu4(c10); c11 = relu4(c11);
    c20 = relu4(c20); c21 = relu4(c21);
    c30 = relu4(c30); c31 = relu4(c31);
  }
  v128.store(c, c00); v128.store(c, c01, V); c += pixel;
  v128.store(c, c10); v128.store(c, c11, V); c += pixel;
  v128.store(c, c20); v128.store(c, c21, V); c += pixel;
  v128.store(c, c30); v128.store(c, c31, V);
}
