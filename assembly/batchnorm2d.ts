/*
 * batchNorm2d over padded NHWC (N, H + 2, W + 2, CS), in place (Ioffe and Szegedy, "Batch Normalization", 2015).
 *
 *   out[n, y, x, c] = (in[n, y, x, c] − mean[c]) / √(var[c] + eps) · weight[c] + bias[c]
 *
 * In eval mode mean and var are the running statistics, and the whole is `in · scale + shift`: conv2d's epilogue computes
 * it, or `affine2d` where the convolution's own output was requested. In train mode they are the batch's
 * (`batchStatistics`).
 */
import { V, floatBytes, madd, relu4 } from './simd';

/** in · scale + shift in place, then ReLU if `relu` is not 0. `scale` and `shift` have CS values. */
export function affine2d(
  buffer: usize,
  n: i32,
  h: i32,
  w: i32,
  stride: i32,
  scale: usize,
  shift: usize,
  relu: i32,
): void {
  const pixel = floatBytes(stride);
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
 * Two passes. Each image row is summed in float32 and the rows in float64, so that large maps keep their precision.
 */
export function batchStatistics(input: usize, n: i32, h: i32, w: i32, stride: i32, mean: usize, variance: usize): void {
  const count = <f64>n * <f64>h * <f64>w;
  const pixel = floatBytes(stride);
  for (let c: usize = 0; c < pixel; c += V) {
    const center = divide(input + c, n, h, w, pixel, f32x4.splat(0), false, count);
    v128.store(mean + c, center);
    v128.store(variance + c, divide(input + c, n, h, w, pixel, center, true, count));
  }
}

/** Σ (x − center), or Σ (x − center)² if `square`, over all pixels of four channels, divided by `count`. */
function divide(input: usize, n: i32, h: i32, w: i32, pixel: usize, center: v128, square: bool, count: f64): v128 {
  let low = f64x2.splat(0);
  let high = f64x2.splat(0);
  for (let row = 0; row < n * h; row++) {
    let p = input + <usize>(((row / h) * (h + 2) + (row % h) + 1) * (w + 2) + 1) * pixel;
    let sum = f32x4.splat(0);
    for (let x = 0; x < w; x++) {
      const d = f32x4.sub(v128.load(p), center);
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
