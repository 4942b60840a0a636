/*
 * Conversion between PyTorch's order (N, C, H, W) and padded NHWC (N, H + 2, W + 2, CS).
 */
import { floatBytes } from './simd';

/** (N, C, H, W) → padded NHWC. Channels past C become zeros; the border is left as it is. */
export function toPaddedNHWC(input: usize, output: usize, n: i32, c: i32, h: i32, w: i32, stride: i32): void {
  const pixel = floatBytes(stride);
  const plane = floatBytes(h * w);
  for (let image = 0; image < n; image++) {
    for (let y = 0; y < h; y++) {
      let out = output + <usize>((image * (h + 2) + y + 1) * (w + 2) + 1) * pixel;
      let column = input + floatBytes((image * c * h + y) * w);
      for (let x = 0; x < w; x++) {
        let value = column;
        for (let channel = 0; channel < c; channel++) {
          store<f32>(out + floatBytes(channel), load<f32>(value));
          value += plane;
        }
        if (stride > c) memory.fill(out + floatBytes(c), 0, floatBytes(stride - c));
        out += pixel;
        column += 4;
      }
    }
  }
}

/** Padded NHWC → (N, C, H, W). */
export function toNCHW(input: usize, output: usize, n: i32, c: i32, h: i32, w: i32, stride: i32): void {
  const pixel = floatBytes(stride);
  for (let image = 0; image < n; image++) {
    for (let channel = 0; channel < c; channel++) {
      for (let y = 0; y < h; y++) {
        let value = input + <usize>((image * (h + 2) + y + 1) * (w + 2) + 1) * pixel + floatBytes(channel);
        for (let x = 0; x < w; x++) {
          store<f32>(output, load<f32>(value));
          output += 4;
          value += pixel;
        }
      }
    }
  }
}

/** Zeroes the border of padded NHWC, which convolutions read as their padding. */
export function clearBorder(buffer: usize, n: i32, h: i32, w: i32, stride: i32): void {
  const pixel = floatBytes(stride);
  const row = <usize>(w + 2) * pixel;
  for (let image = 0; image < n; image++) {
    const top = buffer + <usize>(image * (h + 2)) * row;
    memory.fill(top, 0, row + pixel);
    // The right end of a row and the left end of the next are adjacent.
    for (let y = 1; y < h; y++) memory.fill(top + <usize>(y + 1) * row - pixel, 0, 2 * pixel);
    memory.fill(top + <usize>(h + 1) * row - pixel, 0, row + pixel);
  }
}
