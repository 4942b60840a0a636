/*
 * Between PyTorch's order (N, C, H, W) and padded NHWC (N, H + 2, W + 2, CS).
 */

/** (N, C, H, W) → padded NHWC. Channels past C become zeros; the border is left as it is. */
export function toPaddedNHWC(input: usize, output: usize, n: i32, c: i32, h: i32, w: i32, stride: i32): void {
  const pixel = <usize>stride << 2;
  const plane = <usize>(h * w) << 2;
  for (let image = 0; image < n; image++) {
    for (let y = 0; y < h; y++) {
      let out = output + <usize>((image * (h + 2) + y + 1) * (w + 2) + 1) * pixel;
      let column = input + (<usize>((image * c * h + y) * w) << 2);
      for (let x = 0; x < w; x++) {
        let value = column;
        for (let channel = 0; channel < c; channel++) {
          store<f32>(out + (<usize>channel << 2), load<f32>(value));
          value += plane;
        }
        if (stride > c) memory.fill(out + (<usize>c << 2), 0, <usize>(stride - c) << 2);
        out += pixel;
        column += 4;
      }
    }
  }
}

/** Padded NHWC → (N, C, H, W). */
export function toNCHW(input: usize, output: usize, n: i32, c: i32, h: i32, w: i32, stride: i32): void {
  const pixel = <usize>stride << 2;
  for (let image = 0; image < n; image++) {
    for (let channel = 0; channel < c; channel++) {
      for (let y = 0; y < h; y++) {
        let value = input + <usize>((image * (h + 2) + y + 1) * (w + 2) + 1) * pixel + (<usize>channel << 2);
        for (let x = 0; x < w; x++) {
          store<f32>(output, load<f32>(value));
          output += 4;
          value += pixel;
        }
      }
    }
  }
}

/** Writes zeros into the border of padded NHWC, which convolutions read as their padding. */
export function clearBorder(buffer: usize, n: i32, h: i32, w: i32, stride: i32): void {
  const pixel = <usize>stride << 2;
  const row = <usize>(w + 2) * pixel;
  for (let image = 0; image < n; image++) {
    const top = buffer + <usize>(image * (h + 2)) * row;
    memory.fill(top, 0, row + pixel);
    // The right end of a row and the left end of the next lie side by side.
    for (let y = 1; y < h; y++) memory.fill(top + <usize>(y + 1) * row - pixel, 0, 2 * pixel);
    memory.fill(top + <usize>(h + 1) * row - pixel, 0, row + pixel);
  }
}
