/*
 * Pooling over padded NHWC (N, H + 2, W + 2, CS), as described in conv2d.ts.
 *
 *   maxPool2d          out[n, y, x, c] = max of in[n, 2y + i, 2x + j, c] over i, j ∈ {0, 1}
 *   adaptiveAvgPool2d  out[n, c, i, j] = mean of window (i, j) of in[n, :, :, c]
 */
import { V, floatBytes } from './simd';
import { partition } from './threads';

@unmanaged
export class MaxPool2dArgs {
  input: usize;
  output: usize;
  images: i32;
  height: i32;
  width: i32;
  /** Channels of a pixel, CS. */
  stride: i32;
}

/**
 * The largest of four vectors: at `corner`, one pixel on, one row on, and both. `f32x4.max` gives NaN where either operand
 * is NaN, as PyTorch does.
 */
// @ts-ignore: decorator
@inline
export function max2x2(corner: usize, pixel: usize, row: usize): v128 {
  const left = f32x4.max(v128.load(corner), v128.load(corner + row));
  const right = f32x4.max(v128.load(corner + pixel), v128.load(corner + row + pixel));
  return f32x4.max(left, right);
}

/** 2×2 max-pool, stride 2, rounding down: (N, H, W) → (N, ⌊H/2⌋, ⌊W/2⌋), both padded NHWC. */
export function maxPool2d(args: MaxPool2dArgs, thread: i32, threads: i32): void {
  const input = args.input;
  const output = args.output;
  const h = args.height;
  const pixel = floatBytes(args.stride);
  const inRow = <usize>(args.width + 2) * pixel;
  const outHeight = h / 2;
  const outWidth = args.width / 2;
  const outRow = <usize>(outWidth + 2) * pixel;
  const rows = args.images * outHeight;
  const first = partition(rows, 1, thread, threads);
  const last = partition(rows, 1, thread + 1, threads);
  for (let row = first; row < last; row++) {
    const n = row / outHeight;
    const y = row % outHeight;
    let top = input + <usize>(n * (h + 2) + 2 * y + 1) * inRow + pixel;
    let out = output + <usize>(n * (outHeight + 2) + y + 1) * outRow + pixel;
    for (let x = 0; x < outWidth; x++) {
      const end = top + pixel;
      while (top < end) {
        v128.store(out, max2x2(top, pixel, inRow));
        top += V;
        out += V;
      }
      top += pixel;
    }
  }
}

/**
 * Average over a grid of `size`² windows: padded NHWC → (N, C, size, size), the order of the classifier's weights. Window i
 * covers rows ⌊i·H/size⌋ to ⌈(i + 1)·H/size⌉ − 1, as in torch.nn.AdaptiveAvgPool2d.
 */
export function adaptiveAvgPool2d(
  input: usize,
  output: usize,
  n: i32,
  c: i32,
  h: i32,
  w: i32,
  stride: i32,
  size: i32,
): void {
  const pixel = floatBytes(stride);
  const row = <usize>(w + 2) * pixel;
  const cells = size * size;
  for (let image = 0; image < n; image++) {
    for (let i = 0; i < size; i++) {
      const top = (i * h) / size;
      const bottom = ((i + 1) * h + size - 1) / size;
      for (let j = 0; j < size; j++) {
        const left = (j * w) / size;
        const right = ((j + 1) * w + size - 1) / size;
        const area = f32x4.splat(<f32>((bottom - top) * (right - left)));
        const corner = input + <usize>(image * (h + 2) + top + 1) * row + <usize>(left + 1) * pixel;
        for (let channel = 0; channel < c; channel += 4) {
          let sum = f32x4.splat(0);
          for (let y = 0; y < bottom - top; y++) {
            let p = corner + <usize>y * row + floatBytes(channel);
            for (let x = left; x < right; x++) {
              sum = f32x4.add(sum, v128.load(p));
              p += pixel;
            }
          }
          const mean = f32x4.div(sum, area);
          const out = output + floatBytes((image * c + channel) * cells + i * size + j);
          const step = floatBytes(cells);
          store<f32>(out, f32x4.extract_lane(mean, 0));
          if (channel + 1 < c) store<f32>(out + step, f32x4.extract_lane(mean, 1));
          if (channel + 2 < c) store<f32>(out + 2 * step, f32x4.extract_lane(mean, 2));
          if (channel + 3 < c) store<f32>(out + 3 * step, f32x4.extract_lane(mean, 3));
        }
      }
    }
  }
}
