/*
 * The gradients of pool.ts over padded NHWC. A max-pool keeps where each maximum was, in two bits: for every four channels of
 * a pooled pixel one byte, whose lower four bits say "in the right column" and whose upper four "in the lower row".
 */
import { V } from './simd';
import { partition } from './threads';

@unmanaged
export class MaxPool2dArgmaxArgs {
  /** (N, H, W), and for the backward its gradient, which is written whole, its border included. */
  input: usize;
  /** (N, ⌊H/2⌋, ⌊W/2⌋), or its gradient. */
  output: usize;
  /** N · ⌊H/2⌋ · ⌊W/2⌋ · stride / 4 bytes. */
  argmax: usize;
  images: i32;
  height: i32;
  width: i32;
  stride: i32;
}

/** All ones where `b` takes the place of `a`: it is larger, or NaN. So the first of equal values stays, and the last NaN. */
// @ts-ignore: decorator
@inline
function replaces(a: v128, b: v128): v128 {
  return v128.or(f32x4.gt(b, a), f32x4.ne(b, b));
}

/** 2×2 max-pool, stride 2, as maxPool2d, which also says where the maxima were, as PyTorch finds them. */
export function maxPool2dArgmax(args: MaxPool2dArgmaxArgs, thread: i32, threads: i32): void {
  const h = args.height,
    pixel = (<usize>args.stride) << 2,
    inRow = <usize>(args.width + 2) * pixel;
  const outHeight = h / 2,
    outWidth = args.width / 2,
    outRow = <usize>(outWidth + 2) * pixel;
  const rows = args.images * outHeight;
  const first = partition(rows, 1, thread, threads),
    last = partition(rows, 1, thread + 1, threads);
  for (let row = first; row < last; row++) {
    const n = row / outHeight,
      y = row % outHeight;
    let top = args.input + <usize>(n * (h + 2) + 2 * y + 1) * inRow + pixel;
    let out = args.output + <usize>(n * (outHeight + 2) + y + 1) * outRow + pixel;
    let code = args.argmax + <usize>(row * outWidth) * (pixel >> 4);
    for (let x = 0; x < outWidth; x++) {
      for (let c: usize = 0; c < pixel; c += V) {
        const a = top + c;
        let max = v128.load(a),
          value = v128.load(a + pixel);
        let right = replaces(max, value);
        max = v128.bitselect(value, max, right);
        value = v128.load(a + inRow);
        let below = replaces(max, value);
        max = v128.bitselect(value, max, below);
        right = v128.andnot(right, below);
        value = v128.load(a + inRow + pixel);
        const both = replaces(max, value);
        max = v128.bitselect(value, max, both);
        right = v128.or(right, both);
        below = v128.or(below, both);
        v128.store(out + c, max);
        store<u8>(code, i32x4.bitmask(right) | (i32x4.bitmask(below) << 4));
        code++;
      }
      top += 2 * pixel;
      out += pixel;
    }
  }
}

/** The input's gradient: the output's where the maximum was, and zero elsewhere. */
export function maxPool2dInputGradient(args: MaxPool2dArgmaxArgs, thread: i32, threads: i32): void {
  const h = args.height,
    w = args.width,
    pixel = (<usize>args.stride) << 2,
    inRow = <usize>(w + 2) * pixel;
  const outHeight = h / 2,
    outWidth = w / 2,
    outRow = <usize>(outWidth + 2) * pixel;
  // Pairs of rows, of which the last one of an image has what is left over: an odd row, and the border.
  const pairs = outHeight + 1,
    all = args.images * pairs;
  const first = partition(all, 1, thread, threads),
    last = partition(all, 1, thread + 1, threads);
  const lanes = i32x4(1, 2, 4, 8);
  for (let pair = first; pair < last; pair++) {
    const n = pair / pairs,
      y = pair % pairs;
    let top = args.input + <usize>(n * (h + 2) + 2 * y + 1) * inRow;
    if (y == 0) memory.fill(top - inRow, 0, inRow);
    if (y == outHeight) {
      memory.fill(top, 0, <usize>(h + 1 - 2 * y) * inRow);
      continue;
    }
    let from = args.output + <usize>(n * (outHeight + 2) + y + 1) * outRow + pixel;
    let code = args.argmax + <usize>((n * outHeight + y) * outWidth) * (pixel >> 4);
    memory.fill(top, 0, pixel);
    memory.fill(top + inRow, 0, pixel);
    top += pixel;
    for (let x = 0; x < outWidth; x++) {
      for (let c: usize = 0; c < pixel; c += V) {
        const value = v128.load(from + c),
          bits = <i32>load<u8>(code);
        code++;
        const right = i32x4.eq(v128.and(i32x4.splat(bits), lanes), lanes);
        const below = i32x4.eq(v128.and(i32x4.splat(bits >> 4), lanes), lanes);
        const upper = v128.andnot(value, below),
          lower = v128.and(value, below),
          a = top + c;
        v128.store(a, v128.andnot(upper, right));
        v128.store(a + pixel, v128.and(upper, right));
        v128.store(a + inRow, v128.andnot(lower, right));
        v128.store(a + inRow + pixel, v128.and(lower, right));
      }
      top += 2 * pixel;
      from += pixel;
    }
    const rest = <usize>(w + 1 - 2 * outWidth) * pixel;
    memory.fill(top, 0, rest);
    memory.fill(top + inRow, 0, rest);
  }
}

/**
 * The input's gradient of adaptiveAvgPool2d, padded NHWC, for that of the output, (N, C, size, size): each cell's, divided by
 * its values, is added to all of them. Writes the border too.
 */
export function adaptiveAvgPool2dInputGradient(
  gradient: usize,
  output: usize,
  n: i32,
  c: i32,
  h: i32,
  w: i32,
  stride: i32,
  size: i32,
): void {
  const pixel = (<usize>stride) << 2,
    row = <usize>(w + 2) * pixel,
    cells = size * size;
  memory.fill(output, 0, <usize>(n * (h + 2)) * row);
  for (let image = 0; image < n; image++) {
    for (let i = 0; i < size; i++) {
      const top = (i * h) / size,
        bottom = ((i + 1) * h + size - 1) / size;
      for (let j = 0; j < size; j++) {
        const left = (j * w) / size,
          right = ((j + 1) * w + size - 1) / size;
        const area = <f32>((bottom - top) * (right - left));
        for (let channel = 0; channel < c; channel++) {
          const value = load<f32>(gradient + ((<usize>((image * c + channel) * cells + i * size + j)) << 2)) / area;
          for (let y = top; y < bottom; y++) {
            let p =
              output + <usize>(image * (h + 2) + y + 1) * row + <usize>(left + 1) * pixel + ((<usize>channel) << 2);
            for (let x = left; x < right; x++) {
              store<f32>(p, load<f32>(p) + value);
              p += pixel;
            }
          }
        }
      }
    }
  }
}
