import { type PlainImage, type RawImage, rowReader } from './raw-image.js';
import { finish, STEP, type Steps } from './steps.js';

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
  const whole = { left: 0, top: 0, width, height };
  return finish(resizeSteps(image, image.channels, { width, height }, region ?? whole));
}

/** `resizeBilinear` in steps, of an image that is first converted to grey or RGB. */
export function* resizeSteps(
  image: RawImage,
  channels: 1 | 3,
  { width, height }: { readonly width: number; readonly height: number },
  region: Region,
): Steps<PlainImage> {
  const columns = width === image.width ? undefined : createFilter(image.width, width, region.left, region.width);
  const rows = height === image.height ? undefined : createFilter(image.height, height, region.top, region.height);
  const range = rows ? rangeOf(rows) : { first: region.top, last: region.top + region.height };
  const across = yield* filterColumns(image, channels, columns, region, range);
  const data = rows ? yield* filterRows(across, region.width * channels, rows, range.first) : across;
  return { data, width: region.width, height: region.height, channels };
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

/** The rows of a range, each cut to the region's columns and, where there is a filter, filtered along its length. */
function* filterColumns(
  image: RawImage,
  channels: 1 | 3,
  filter: Filter | undefined,
  region: Region,
  { first, last }: { readonly first: number; readonly last: number },
): Steps<Uint8Array> {
  const length = region.width * channels;
  const out = new Uint8Array((last - first) * length);
  const read = rowReader(image, channels);
  for (let y = first, to = 0, work = 0; y < last; y++, to += length) {
    const row = read(y);
    if (filter) filterRow(row, channels, filter, out.subarray(to, to + length));
    else out.set(row.subarray(region.left * channels, region.left * channels + length), to);
    work += row.length + length;
    if (work >= STEP) {
      work = 0;
      yield;
    }
  }
  return out;
}

function filterRow(row: RawImage['data'], channels: 1 | 3, filter: Filter, out: Uint8Array): void {
  const { starts, counts, stride, weights } = filter;
  for (let x = 0, to = 0; x < starts.length; x++) {
    const count = counts[x] as number;
    const at = x * stride;
    let from = (starts[x] as number) * channels;
    if (channels === 1) {
      let sum = HALF;
      for (let k = 0; k < count; k++) {
        sum = (sum + Math.imul(row[from++] as number, weights[at + k] as number)) | 0;
      }
      out[to++] = clip8(sum);
      continue;
    }
    let r = HALF;
    let g = HALF;
    let b = HALF;
    for (let k = 0; k < count; k++, from += 3) {
      const weight = weights[at + k] as number;
      r = (r + Math.imul(row[from] as number, weight)) | 0;
      g = (g + Math.imul(row[from + 1] as number, weight)) | 0;
      b = (b + Math.imul(row[from + 2] as number, weight)) | 0;
    }
    out[to] = clip8(r);
    out[to + 1] = clip8(g);
    out[to + 2] = clip8(b);
    to += 3;
  }
}

/** Rows of `length` values, of which the first is row `first` of the image, filtered down the columns. */
function* filterRows(data: Uint8Array, length: number, filter: Filter, first: number): Steps<Uint8Array> {
  const { starts, counts, stride, weights } = filter;
  const out = new Uint8Array(starts.length * length);
  const sums = new Int32Array(length);
  for (let y = 0, work = 0; y < starts.length; y++) {
    sums.fill(HALF);
    for (let k = 0; k < (counts[y] as number); k++) {
      const weight = weights[y * stride + k] as number;
      const from = ((starts[y] as number) - first + k) * length;
      for (let x = 0; x < length; x++) {
        sums[x] = ((sums[x] as number) + Math.imul(data[from + x] as number, weight)) | 0;
      }
      work += length;
      if (work >= STEP) {
        work = 0;
        yield;
      }
    }
    for (let x = 0; x < length; x++) out[y * length + x] = clip8(sums[x] as number);
  }
  return out;
}
