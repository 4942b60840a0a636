/*
 * batchNorm2d over padded NHWC: out = (in − mean) / √(var + eps) · weight + bias, per channel.
 *
 * In eval mode mean and var are the running ones and the whole is `in · scale + shift`, which conv2d's epilogue
 * does; `affine2d` is for the case that the convolution's own output was asked for. In train mode they are the
 * batch's (`batchStatistics`). Ioffe and Szegedy, "Batch Normalization", 2015.
 */
import { V, madd, relu4 } from './simd';

/** out = in · scale + shift, then ReLU if asked for; may run in place. `scale` and `shift` have CS values. */
export function affine2d(
  buffer: usize, n: i32, h: i32, w: i32, stride: i32, scale: usize, shift: usize, relu: i32,
): void {
  const pixel = <usize>stride << 2;
  for (let row = 0; row < n * h; row++) {
    let p = buffer + <usize>(((row / h) * (h + 2) + (row % h) + 1) * (w + 2) + 1) * pixel;
    for (let x = 0; x < w; x++) {
      for (let c: usize = 0; c < pixel; c += V) {
        let value = madd(v128.load(p + c), v128.load(scale + c), v128.load(shift + c));
        if (relu) value = relu4(value);
        v128.store(p + c, value);
      }
      p += pixel;
    }
  }
}

/**
 * Mean and biased variance of each channel over (N, H, W), into `mean` and `variance` (CS values each).
 * Two passes; each image row is summed in float32 and the rows in float64, so that large maps keep their digits.
 */
export function batchStatistics(
  input: usize, n: i32, h: i32, w: i32, stride: i32, mean: usize, variance: usize,
): void {
  const count = <f64>n * <f64>h * <f64>w;
  const pixel = <usize>stride << 2;
  for (let c: usize = 0; c < pixel; c += V) {
    const centre = divide(input + c, n, h, w, pixel, f32x4.splat(0), false, count);
    v128.store(mean + c, centre);
    v128.store(variance + c, divide(input + c, n, h, w, pixel, centre, true, count));
  }
}

/** Σ (x − centre), or Σ (x − centre)² if `square`, over all pixels of four channels, divided by `count`. */
function divide(
  input: usize, n: i32, h: i32, w: i32, pixel: usize, centre: v128, square: bool, count: f64,
): v128 {
  let low = f64x2.splat(0), high = f64x2.splat(0);
  for (let row = 0; row < n * h; row++) {
    let p = input + <usize>(((row / h) * (h + 2) + (row % h) + 1) * (w + 2) + 1) * pixel;
    let sum = f32x4.splat(0);
    for (let x = 0; x < w; x++) {
      const d = f32x4.sub(v128.load(p), centre);
      sum = f32x4.add(sum, square ? f32x4.mul(d, d) : d);
      p += pixel;
    }
    low = f64x2.add(low, f64x2.promote_low_f32x4(sum));
    high = f64x2.add(high, f64x2.promote_low_f32x4(v128.shuffle<f32>(sum, sum, 2, 3, 2, 3)));
  }
  const divisor = f64x2.splat(count);
  const a = f32x4.demote_f64x2_zero(f64x2.div(low, divisor));
  const b = f32x4.demote_f64x2_zero(f64x2.div(high, divisor));
  return v128.shuffle<f32>(a, b, 0, 1, 4, 5);
}
