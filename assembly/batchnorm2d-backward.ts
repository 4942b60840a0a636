/*
 * The gradients of batchnorm2d.ts, and sums over the pixels of each channel, which biases have too. Values are padded NHWC.
 */
import { V } from './simd';
import { partition } from './threads';

@unmanaged
export class ChannelSumsArgs {
  gradient: usize;
  /** What the gradient is multiplied by, less `mean`; 0 for the plain sums alone. */
  values: usize;
  /** Per channel. */
  mean: usize;
  /** Σ dy, and Σ dy · (x − mean): a float64 a channel each. */
  totals: usize;
  products: usize;
  images: i32;
  height: i32;
  width: i32;
  stride: i32;
}

/** A row is summed in float32, and the rows in float64. The threads share the channels, and never a sum. */
export function channelSums(args: ChannelSumsArgs, thread: i32, threads: i32): void {
  const h = args.height,
    w = args.width,
    pixel = (<usize>args.stride) << 2;
  const first = partition(args.stride, 4, thread, threads),
    last = partition(args.stride, 4, thread + 1, threads);
  for (let channel = first; channel < last; channel += 4) {
    const c = (<usize>channel) << 2;
    const center = args.values ? v128.load(args.mean + c) : f32x4.splat(0);
    let low = f64x2.splat(0),
      high = low,
      lowProduct = low,
      highProduct = low;
    for (let row = 0; row < args.images * h; row++) {
      const at = <usize>(((row / h) * (h + 2) + (row % h) + 1) * (w + 2) + 1) * pixel + c;
      let p = args.gradient + at,
        sum = f32x4.splat(0),
        product = sum;
      if (args.values) {
        let x = args.values + at;
        for (let i = 0; i < w; i++) {
          const value = v128.load(p);
          sum = f32x4.add(sum, value);
          product = f32x4.add(product, f32x4.mul(value, f32x4.sub(v128.load(x), center)));
          p += pixel;
          x += pixel;
        }
      } else {
        for (let i = 0; i < w; i++) {
          sum = f32x4.add(sum, v128.load(p));
          p += pixel;
        }
      }
      low = f64x2.add(low, f64x2.promote_low_f32x4(sum));
      high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<f32>(sum, sum, 2, 3, 2, 3)));
      lowProduct = f64x2.add(lowProduct, f64x2.promote_low_f32x4(product));
      highProduct = f64x2.add(highProduct, f64x2.promote_low_f32x4(v128.shuffle<f32>(product, product, 2, 3, 2, 3)));
    }
    v128.store(args.totals + 2 * c, low);
    v128.store(args.totals + 2 * c, high, V);
    v128.store(args.products + 2 * c, lowProduct);
    v128.store(args.products + 2 * c, highProduct, V);
  }
}

@unmanaged
export class BatchNorm2dBackwardArgs {
  /** dy, which becomes dx. */
  gradient: usize;
  /** The input of the batch norm. */
  values: usize;
  /** Per channel: dx = dy · scale − (x − mean) · slope − shift. */
  mean: usize;
  scale: usize;
  slope: usize;
  shift: usize;
  images: i32;
  height: i32;
  width: i32;
  stride: i32;
}

/** dx where the statistics are the batch's. The threads share the rows. */
export function batchNorm2dInputGradient(args: BatchNorm2dBackwardArgs, thread: i32, threads: i32): void {
  const h = args.height,
    w = args.width,
    pixel = (<usize>args.stride) << 2,
    rows = args.images * h;
  const first = partition(rows, 1, thread, threads),
    last = partition(rows, 1, thread + 1, threads);
  for (let row = first; row < last; row++) {
    const at = <usize>(((row / h) * (h + 2) + (row % h) + 1) * (w + 2) + 1) * pixel;
    let p = args.gradient + at,
      x = args.values + at;
    for (let i = 0; i < w; i++) {
      for (let c: usize = 0; c < pixel; c += V) {
        const centered = f32x4.sub(v128.load(x + c), v128.load(args.mean + c));
        const value = f32x4.sub(
          f32x4.mul(v128.load(p + c), v128.load(args.scale + c)),
          f32x4.mul(centered, v128.load(args.slope + c)),
        );
        v128.store(p + c, f32x4.sub(value, v128.load(args.shift + c)));
      }
      p += pixel;
      x += pixel;
    }
  }
}
