import type { PlainImage } from './raw-image.js';

/** A rectangle of pixels. */
export interface Region {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/**
 * The size that torchvision's `Resize(size)` gives: the shorter side becomes `size`, the longer one
 * `size * long / short` rounded down.
 */
export function shorterSideSize(width: number, height: number, size: number): { width: number; height: number } {
  const long = Math.trunc((size * Math.max(width, height)) / Math.min(width, height));
  return width <= height ? { width: size, height: long } : { width: long, height: size };
}

/**
 * Antialiased bilinear resize, equal at every pixel to Pillow's `Image.resize((width, height), BILINEAR)`:
 * a triangle filter, widened by the factor of reduction, applied along the rows and then along the columns, with
 * weights of 22-bit fixed point and a result rounded to 8 bits after each pass.
 *
 * The method is that of Pillow's `libImaging/Resample.c`; the filter is Heckbert's,
 * "Fundamentals of Texture Mapping and Image Warping", 1989.
 * @param region the part of the result that is wanted; what lies outside is not computed
 */
export function resizeBilinear(image: PlainImage, width: number, height: number, region?: Region): PlainImage {
  const part = region ?? { left: 0, top: 0, width, height };
  const columns = width === image.width ? undefined : createFilter(image.width, width, part.left, part.width);
  const rows = height === image.height ? undefined : createFilter(image.height, height, part.top, part.height);
  const { first, last } = rows ? rangeOf(rows) : { first: part.top, last: part.top + part.height };
  const across = columns ? filterColumns(image, columns, first, last) : cutRows(image, part, first, last);
  const data = rows ? filterRows(across, part.width * image.channels, rows, first) : across;
  return { data, width: part.width, height: part.height, channels: image.channels };
}

const PRECISION_BITS = 22;
const HALF = 1 << (PRECISION_BITS - 1);

/** For each output position the inputs that it is made of. */
export interface Filter {
  /** First input of each output. */
  readonly starts: Int32Array;
  /** Number of inputs of each output. */
  readonly counts: Int32Array;
  /** Room for one output's weights. */
  readonly stride: number;
  /** `stride` weights for each output, in fixed point. */
  readonly weights: Int32Array;
}

/** The weights of `count` outputs from `first` on, of `outSize` outputs in all. */
export function createFilter(inSize: number, outSize: number, first: number, count: number): Filter {
  const scale = inSize / outSize;
  const support = Math.max(scale, 1);
  const stride = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(count);
  const counts = new Int32Array(count);
  const weights = new Int32Array(count * stride);
  const exact = new Float64Array(stride);
  for (let i = 0; i < count; i++) {
    const centre = (first + i + 0.5) * scale;
    const start = Math.max(0, Math.trunc(centre - support + 0.5));
    const taps = Math.min(inSize, Math.trunc(centre + support + 0.5)) - start;
    let sum = 0;
    for (let k = 0; k < taps; k++) {
      // Multiplied by the reciprocal, as Pillow does: a division would round otherwise.
      const weight = Math.max(0, 1 - Math.abs((k + start - centre + 0.5) * (1 / support)));
      exact[k] = weight;
      sum += weight;
    }
    for (let k = 0; k < taps; k++) {
      weights[i * stride + k] = Math.trunc(0.5 + ((exact[k] as number) / sum) * 2 ** PRECISION_BITS);
    }
    starts[i] = start;
    counts[i] = taps;
  }
  return { starts, counts, stride, weights };
}

/** The inputs from the first that any output needs to the last, exclusive. */
export function rangeOf(filter: Filter): { first: number; last: number } {
  const end = filter.starts.length - 1;
  return {
    first: filter.starts[0] as number,
    last: (filter.starts[end] as number) + (filter.counts[end] as number),
  };
}

/** Weights are never negative, so that only the upper bound can be passed, by their rounding. */
function clip8(sum: number): number {
  return Math.min(sum >> PRECISION_BITS, 255);
}

/** Rows `first` to `last` of an image, each filtered along its length. */
function filterColumns(image: PlainImage, filter: Filter, first: number, last: number): Uint8Array {
  const { data, width, channels } = image;
  const { starts, counts, stride, weights } = filter;
  const outWidth = starts.length;
  const out = new Uint8Array((last - first) * outWidth * channels);
  let to = 0;
  for (let y = first; y < last; y++) {
    const row = y * width * channels;
    for (let x = 0; x < outWidth; x++) {
      const count = counts[x] as number;
      const at = x * stride;
      let from = row + (starts[x] as number) * channels;
      if (channels === 1) {
        let sum = HALF;
        for (let k = 0; k < count; k++) {
          sum = (sum + Math.imul(data[from++] as number, weights[at + k] as number)) | 0;
        }
        out[to++] = clip8(sum);
        continue;
      }
      let r = HALF;
      let g = HALF;
      let b = HALF;
      for (let k = 0; k < count; k++, from += 3) {
        const weight = weights[at + k] as number;
        r = (r + Math.imul(data[from] as number, weight)) | 0;
        g = (g + Math.imul(data[from + 1] as number, weight)) | 0;
        b = (b + Math.imul(data[from + 2] as number, weight)) | 0;
      }
      out[to] = clip8(r);
      out[to + 1] = clip8(g);
      out[to + 2] = clip8(b);
      to += 3;
    }
  }
  return out;
}

/** Rows of `length` values, of which the first is row `first` of the image, filtered down the columns. */
function filterRows(data: Uint8Array | Uint8ClampedArray, length: number, filter: Filter, first: number): Uint8Array {
  const { starts, counts, stride, weights } = filter;
  const out = new Uint8Array(starts.length * length);
  const sums = new Int32Array(length);
  for (let y = 0; y < starts.length; y++) {
    sums.fill(HALF);
    for (let k = 0; k < (counts[y] as number); k++) {
      const weight = weights[y * stride + k] as number;
      const from = ((starts[y] as number) - first + k) * length;
      for (let x = 0; x < length; x++) {
        sums[x] = ((sums[x] as number) + Math.imul(data[from + x] as number, weight)) | 0;
      }
    }
    for (let x = 0; x < length; x++) out[y * length + x] = clip8(sums[x] as number);
  }
  return out;
}

/** Rows `first` to `last`, as wide as the region, unfiltered. */
function cutRows(image: PlainImage, region: Region, first: number, last: number): Uint8Array {
  const { data, width, channels } = image;
  const length = region.width * channels;
  const out = new Uint8Array((last - first) * length);
  for (let y = first; y < last; y++) {
    const from = (y * width + region.left) * channels;
    out.set(data.subarray(from, from + length), (y - first) * length);
  }
  return out;
}
