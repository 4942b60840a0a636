/*
 * conv2d of an image's three channels: shapes, layout and formula are those of conv2d.ts, with CS = 3 for the input. No rows
 * are packed, since the pixels of a tile are adjacent in the input and one pointer reaches them all. K is 27, too short to
 * load and store sums or for a separate epilogue: both stay in registers. Sums have the same order, and so the same bits.
 */
import { ConvolutionArgs } from './conv2d';
import { SCRATCH, panelsOf } from './gemm';
import { max2x2 } from './pool';
import { V, floatBytes, madd, relu4 } from './simd';
import { partition } from './threads';
import { EIGHT, MR, NR, columnOffset } from './tile';

/** Bytes of a row of the 3×3 window: three pixels of three channels. */
const WINDOW_ROW: usize = 36;

/** True if `conv2dRgb` takes it: rows at least as wide as a tile, and output channels that fill their panels. */
export function isRgb(args: ConvolutionArgs): bool {
  return args.inStride == 3 && args.width >= MR && args.outChannels % NR == 0;
}

export function conv2dRgb(args: ConvolutionArgs, thread: i32, threads: i32): void {
  if (args.pool) conv2dRgbPooled(args, thread, threads);
  else conv2dRgbWhole(args, thread, threads);
}

function conv2dRgbWhole(args: ConvolutionArgs, thread: i32, threads: i32): void {
  const width = args.width;
  const height = args.height;
  const panels = panelsOf(args.outChannels);
  const inRow = <usize>(width + 2) * 12;
  const pixel = floatBytes(args.outStride);
  const outRow = <usize>(width + 2) * pixel;
  const lines = args.images * height;
  const first = partition(lines, 1, thread, threads);
  const last = partition(lines, 1, thread + 1, threads);
  for (let line = first; line < last; line++) {
    const n = line / height;
    const y = line % height;
    const from = args.input + <usize>(n * (height + 2) + y) * inRow;
    const to = args.output + <usize>(n * (height + 2) + y + 1) * outRow + pixel;
    for (let at = 0; at < width; at += MR) {
      // The last tile overlaps the one before it and computes some pixels twice.
      const x = min(at, width - MR);
      const a = from + <usize>x * 12;
      const c = to + <usize>x * pixel;
      for (let panel = 0; panel < panels; panel++) {
        rgb(args, a, inRow, panel, c + columnOffset(panel), pixel);
      }
    }
  }
}

/** Computes two rows of a tile into the scratch, which stays in L1, and their max-pool into the output. */
function conv2dRgbPooled(args: ConvolutionArgs, thread: i32, threads: i32): void {
  const width = args.width;
  const height = args.height;
  const panels = panelsOf(args.outChannels);
  const outWidth = width / 2;
  const outHeight = height / 2;
  const inRow = <usize>(width + 2) * 12;
  const pixel = floatBytes(args.outStride);
  const outRow = <usize>(outWidth + 2) * pixel;
  const tile = args.scratch + <usize>(thread * SCRATCH);
  const tileRow = <usize>MR * EIGHT;
  const lines = args.images * outHeight;
  const first = partition(lines, 1, thread, threads);
  const last = partition(lines, 1, thread + 1, threads);
  for (let line = first; line < last; line++) {
    const n = line / outHeight;
    const y = line % outHeight;
    const from = args.input + <usize>(n * (height + 2) + 2 * y) * inRow;
    const to = args.output + <usize>(n * (outHeight + 2) + y + 1) * outRow + pixel;
    for (let at = 0; at < 2 * outWidth; at += MR) {
      // MR is even: the last tile overlaps the one before it by whole windows.
      const x = min(at, 2 * outWidth - MR);
      const a = from + <usize>x * 12;
      const c = to + <usize>(x / 2) * pixel;
      for (let panel = 0; panel < panels; panel++) {
        rgb(args, a, inRow, panel, tile, EIGHT);
        rgb(args, a + inRow, inRow, panel, tile + tileRow, EIGHT);
        poolTile(tile, c + columnOffset(panel), pixel);
      }
    }
  }
}

/**
 * The max-pool of a tile of two rows. `f32x4.max` takes about eight instructions, so it is only used for tiles with NaN,
 * which the sum of all values reveals (or both infinities, which is harmless); otherwise `pmax`, one instruction, is equal.
 */
function poolTile(tile: usize, out: usize, pixel: usize): void {
  const tileRow = <usize>MR * EIGHT;
  const end = tile + tileRow;
  let sum = f32x4.splat(0);
  let to = out;
  for (let corner = tile; corner < end; corner += 2 * EIGHT) {
    let a = v128.load(corner);
    let b = v128.load(corner, EIGHT);
    let c = v128.load(corner + tileRow);
    let d = v128.load(corner + tileRow, EIGHT);
    sum = f32x4.add(sum, f32x4.add(f32x4.add(a, b), f32x4.add(c, d)));
    v128.store(to, f32x4.pmax(f32x4.pmax(a, b), f32x4.pmax(c, d)));
    a = v128.load(corner, V);
    b = v128.load(corner, EIGHT + V);
    c = v128.load(corner + tileRow, V);
    d = v128.load(corner + tileRow, EIGHT + V);
    sum = f32x4.add(sum, f32x4.add(f32x4.add(a, b), f32x4.add(c, d)));
    v128.store(to, f32x4.pmax(f32x4.pmax(a, b), f32x4.pmax(c, d)), V);
    to += pixel;
  }
  if (!v128.any_true(f32x4.ne(sum, sum))) return;
  for (let corner = tile; corner < end; corner += 2 * EIGHT) {
    v128.store(out, max2x2(corner, EIGHT, tileRow));
    v128.store(out, max2x2(corner + V, EIGHT, tileRow), V);
    out += pixel;
  }
}

/** MR adjacent pixels, whose first window begins at `a`, times panel number `panel`, to pixels `pixel` bytes apart. */
// @ts-ignore: decorator
@inline
function rgb(args: ConvolutionArgs, a: usize, inRow: usize, panel: i32, c: usize, pixel: usize): void {
  const b = args.weights + <usize>panel * (27 * 2 * V);
  const scale = args.scale + columnOffset(panel);
  const shift = args.shift + columnOffset(panel);
  const relu = args.relu != 0;
  if (MR == 6) rgb6x8(a, inRow, b, c, pixel, scale, shift, relu);
  else rgb4x8(a, inRow, b, c, pixel, scale, shift, relu);
}

/** Six adjacent pixels, whose first window begins at `a`, times a panel of weights. */
// biome-ignore format: a row of the tile a line
function rgb6x8(a: usize, row: usize, b: usize, c: usize, pixel: usize, scale: usize, shift: usize, relu: bool): void {
  let c00 = f32x4.splat(0), c01 = c00;
  let c10 = c00, c11 = c00;
  let c20 = c00, c21 = c00;
  let c30 = c00, c31 = c00;
  let c40 = c00, c41 = c00;
  let c50 = c00, c51 = c00;
  for (const end = b + 27 * 2 * V; b < end; a += row - WINDOW_ROW) {
    for (const next = a + WINDOW_ROW; a < next; a += 4) {
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

/** The same for four pixels. */
// biome-ignore format: a row of the tile a line
function rgb4x8(a: usize, row: usize, b: usize, c: usize, pixel: usize, scale: usize, shift: usize, relu: bool): void {
  let c00 = f32x4.splat(0), c01 = c00;
  let c10 = c00, c11 = c00;
  let c20 = c00, c21 = c00;
  let c30 = c00, c31 = c00;
  for (const end = b + 27 * 2 * V; b < end; a += row - WINDOW_ROW) {
    for (const next = a + WINDOW_ROW; a < next; a += 4) {
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
