/*
 * The gradients of conv2d.ts. Activations and their gradients are padded NHWC, weights and theirs are packed alike:
 * (⌈OC/8⌉, 3, 3, CS, 8).
 *
 *   dx[n, y, x, ic] = Σ kh, kw, oc  dy[n, y − kh + 1, x − kw + 1, oc] · weight[oc, ic, kh, kw]
 *   dweight[oc, ic, kh, kw] = Σ n, y, x  dy[n, y, x, oc] · in[n, y + kh − 1, x + kw − 1, ic]
 *
 * The first is the forward of dy with flipped weights, inputs and outputs exchanged, so that every forward kernel serves it.
 * The second is a product of matrices whose long side, the pixels, is summed: M = 3 · 3 · CS, N = OC, K = N · H · W. For one kh
 * its rows lie side by side in the packed gradient, and beside each other in a pixel's window of the input.
 */
import { V, madd } from './simd';
import { partition } from './threads';

@unmanaged
export class FlipConv2dArgs {
  /** As conv2d takes them. */
  packed: usize;
  /** The same for the input's gradient: (⌈CS/8⌉, 3, 3, outStride, 8). */
  flipped: usize;
  inStride: i32;
  outStride: i32;
}

/** Exchanges inputs and outputs and turns the kernel by 180°. The threads share the panels of the result. */
export function flipConv2d(args: FlipConv2dArgs, thread: i32, threads: i32): void {
  const inStride = args.inStride,
    outStride = args.outStride,
    panels = (inStride + 7) / 8;
  const first = partition(panels, 1, thread, threads),
    last = partition(panels, 1, thread + 1, threads);
  for (let panel = first; panel < last; panel++) {
    const columns = min(8, inStride - panel * 8);
    for (let tap = 0; tap < 9; tap++) {
      let to = args.flipped + ((<usize>((panel * 9 + 8 - tap) * outStride)) << 5);
      for (let oc = 0; oc < outStride; oc += 8) {
        const from = args.packed + ((<usize>(((oc / 8) * 9 + tap) * inStride + panel * 8)) << 5);
        if (columns == 8) {
          transpose4x4(from, to);
          transpose4x4(from + V, to + 4 * 32);
          transpose4x4(from + 4 * 32, to + V);
          transpose4x4(from + 4 * 32 + V, to + 4 * 32 + V);
        } else {
          memory.fill(to, 0, 256);
          for (let c = 0; c < columns; c++) {
            for (let lane = 0; lane < 8; lane++) {
              store<f32>(to + ((<usize>(lane * 8 + c)) << 2), load<f32>(from + ((<usize>(c * 8 + lane)) << 2)));
            }
          }
        }
        to += 256;
      }
    }
  }
}

/** Rows of both lie 32 bytes apart. */
// @ts-ignore: decorator
@inline
function transpose4x4(from: usize, to: usize): void {
  const a = v128.load(from),
    b = v128.load(from, 32),
    c = v128.load(from, 64),
    d = v128.load(from, 96);
  const ab = v128.shuffle<f32>(a, b, 0, 4, 1, 5),
    AB = v128.shuffle<f32>(a, b, 2, 6, 3, 7);
  const cd = v128.shuffle<f32>(c, d, 0, 4, 1, 5),
    CD = v128.shuffle<f32>(c, d, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<f32>(ab, cd, 0, 1, 4, 5));
  v128.store(to, v128.shuffle<f32>(ab, cd, 2, 3, 6, 7), 32);
  v128.store(to, v128.shuffle<f32>(AB, CD, 0, 1, 4, 5), 64);
  v128.store(to, v128.shuffle<f32>(AB, CD, 2, 3, 6, 7), 96);
}

@unmanaged
export class Conv2dWeightGradientArgs {
  input: usize;
  /** The output's gradient. */
  gradient: usize;
  /** What the weights' gradient is added to. */
  weights: usize;
  images: i32;
  height: i32;
  width: i32;
  inStride: i32;
  outStride: i32;
}

/** Fewest pixels whose products are summed by themselves before they are added to the whole, so that it keeps its digits. */
const BLOCK: i32 = 128;

/** Adds to the weights' gradient. The threads share its panels and their three parts, and never a sum. */
export function conv2dWeightGradient(args: Conv2dWeightGradientArgs, thread: i32, threads: i32): void {
  const height = args.height,
    width = args.width,
    length = 3 * args.inStride;
  const units = (args.outStride / 8) * 3;
  const first = partition(units, 1, thread, threads),
    last = partition(units, 1, thread + 1, threads);
  const pixel = (<usize>args.inStride) << 2,
    row = <usize>(width + 2) * pixel;
  const outPixel = (<usize>args.outStride) << 2,
    outRow = <usize>(width + 2) * outPixel;
  const step = (BLOCK + width - 1) / width;
  for (let n = 0; n < args.images; n++) {
    for (let y = 0; y < height; y += step) {
      const rows = min(step, height - y);
      const corner = args.input + <usize>(n * (height + 2) + y) * row;
      const dy = args.gradient + <usize>(n * (height + 2) + y + 1) * outRow + outPixel;
      for (let unit = first; unit < last; unit++) {
        const panel = unit / 3,
          kh = unit % 3;
        const x = corner + <usize>kh * row,
          g = dy + ((<usize>panel) << 5);
        let to = args.weights + ((<usize>((panel * 3 + kh) * length)) << 5);
        let i = 0;
        while (i < length) {
          const rest = length - i,
            from = x + ((<usize>i) << 2);
          if (rest == 6 || rest >= 10) {
            rank6x8(from, pixel, row, g, outPixel, outRow, rows, width, to);
            i += 6;
            to += 6 * 32;
          } else if (rest >= 4) {
            rank4x8(from, pixel, row, g, outPixel, outRow, rows, width, to);
            i += 4;
            to += 4 * 32;
          } else {
            rank1x8(from, pixel, row, g, outPixel, outRow, rows, width, to);
            i++;
            to += 32;
          }
        }
      }
    }
  }
}

// @ts-ignore: decorator
@inline
function addTo(address: usize, value: v128): void {
  v128.store(address, f32x4.add(v128.load(address), value));
}

/** Adds Σ x[i] · dy[j] over `rows` · `width` pixels for six values of the window and eight output channels. */
function rank6x8(
  x: usize,
  pixel: usize,
  row: usize,
  dy: usize,
  outPixel: usize,
  outRow: usize,
  rows: i32,
  width: i32,
  to: usize,
): void {
  let s0 = f32x4.splat(0),
    s1 = s0,
    s2 = s0,
    s3 = s0,
    s4 = s0,
    s5 = s0;
  let t0 = s0,
    t1 = s0,
    t2 = s0,
    t3 = s0,
    t4 = s0,
    t5 = s0;
  for (let i = 0; i < rows; i++) {
    let a = x,
      b = dy;
    for (let j = 0; j < width; j++) {
      const left = v128.load(b),
        right = v128.load(b, V);
      let v = v128.load32_splat(a);
      s0 = madd(v, left, s0);
      t0 = madd(v, right, t0);
      v = v128.load32_splat(a, 4);
      s1 = madd(v, left, s1);
      t1 = madd(v, right, t1);
      v = v128.load32_splat(a, 8);
      s2 = madd(v, left, s2);
      t2 = madd(v, right, t2);
      v = v128.load32_splat(a, 12);
      s3 = madd(v, left, s3);
      t3 = madd(v, right, t3);
      v = v128.load32_splat(a, 16);
      s4 = madd(v, left, s4);
      t4 = madd(v, right, t4);
      v = v128.load32_splat(a, 20);
      s5 = madd(v, left, s5);
      t5 = madd(v, right, t5);
      a += pixel;
      b += outPixel;
    }
    x += row;
    dy += outRow;
  }
  addTo(to, s0);
  addTo(to + V, t0);
  addTo(to + 32, s1);
  addTo(to + 32 + V, t1);
  addTo(to + 64, s2);
  addTo(to + 64 + V, t2);
  addTo(to + 96, s3);
  addTo(to + 96 + V, t3);
  addTo(to + 128, s4);
  addTo(to + 128 + V, t4);
  addTo(to + 160, s5);
  addTo(to + 160 + V, t5);
}

function rank4x8(
  x: usize,
  pixel: usize,
  row: usize,
  dy: usize,
  outPixel: usize,
  outRow: usize,
  rows: i32,
  width: i32,
  to: usize,
): void {
  let s0 = f32x4.splat(0),
    s1 = s0,
    s2 = s0,
    s3 = s0;
  let t0 = s0,
    t1 = s0,
    t2 = s0,
    t3 = s0;
  for (let i = 0; i < rows; i++) {
    let a = x,
      b = dy;
    for (let j = 0; j < width; j++) {
      const left = v128.load(b),
        right = v128.load(b, V);
      let v = v128.load32_splat(a);
      s0 = madd(v, left, s0);
      t0 = madd(v, right, t0);
      v = v128.load32_splat(a, 4);
      s1 = madd(v, left, s1);
      t1 = madd(v, right, t1);
      v = v128.load32_splat(a, 8);
      s2 = madd(v, left, s2);
      t2 = madd(v, right, t2);
      v = v128.load32_splat(a, 12);
      s3 = madd(v, left, s3);
      t3 = madd(v, right, t3);
      a += pixel;
      b += outPixel;
    }
    x += row;
    dy += outRow;
  }
  addTo(to, s0);
  addTo(to + V, t0);
  addTo(to + 32, s1);
  addTo(to + 32 + V, t1);
  addTo(to + 64, s2);
  addTo(to + 64 + V, t2);
  addTo(to + 96, s3);
  addTo(to + 96 + V, t3);
}

function rank1x8(
  x: usize,
  pixel: usize,
  row: usize,
  dy: usize,
  outPixel: usize,
  outRow: usize,
  rows: i32,
  width: i32,
  to: usize,
): void {
  let s = f32x4.splat(0),
    t = s;
  for (let i = 0; i < rows; i++) {
    let a = x,
      b = dy;
    for (let j = 0; j < width; j++) {
      const v = v128.load32_splat(a);
      s = madd(v, v128.load(b), s);
      t = madd(v, v128.load(b, V), t);
      a += pixel;
      b += outPixel;
    }
    x += row;
    dy += outRow;
  }
  addTo(to, s);
  addTo(to + V, t);
}
