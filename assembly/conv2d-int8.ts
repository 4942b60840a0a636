/*
 * conv2d in integers: weights from −127 to 127 with a scale per output channel, activations from 0 to 127 with one per
 * image (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
 * 2018).
 *
 *   out[n, y, x, oc] = epilogue(scale · Σ kh, kw, ic  q[n, y + kh − 1, x + kw − 1, ic] · weight[oc, ic, kh, kw])
 *
 * Sums of products are exact in 32 bits, so every build, machine and number of threads gives the same ones. Activations
 * come from a ReLU, so none is negative; the relaxed dot product takes seven bits of them on every machine alike.
 *
 * The input is padded NHWC float32, as in conv2d.ts, and is first converted to bytes in the same layout. No rows are
 * packed: four channels of a pixel are a 32-bit load, and a tile reads its pixels in place. Weights are packed as
 * (⌈OC/8⌉, 3, 3, CS/4, 8, 4).
 */
import { ConvolutionArgs } from './conv2d';
import { inverseOf, largest, quantize, scaleOf } from './expand';
import { MC, SCRATCH, panelsOf, setRow } from './gemm';
import { max2x2 } from './pool';
import { V, floatBytes, laneMask, madd, relu4 } from './simd';
import { MIN_PIXELS, barrier, partition } from './threads';
import { EIGHT, NR, ROW_ENTRY, columnOffset, rowA, rowC } from './tile';

@unmanaged
export class Conv2dInt8Args extends ConvolutionArgs {
  /** Of the weights, per output channel. */
  weightScales: usize;
  /** For each thread a float32 for each image. */
  maxima: usize;
  /** N · (H + 2) · (W + 2) · CS bytes. */
  bytes: usize;
  /** Activations are clipped to this value; 0: to each image's own largest. */
  range: f32;
}

/** Pixels of a tile: with the relaxed dot product, and without. */
const TILE: i32 = ASC_FEATURE_RELAXED_SIMD ? 6 : 2;
/** A thread's scratch after the table of rows: a block's outputs before the pool, addresses of the pooled ones, scales. */
const UNPOOLED: usize = <usize>MC * ROW_ENTRY;
const WINDOWS: usize = UNPOOLED + <usize>MC * EIGHT;
const SCALES: usize = WINDOWS + <usize>MC * 4;

export function conv2dInt8(args: Conv2dInt8Args, thread: i32, threads: i32): void {
  if (args.range == 0) {
    findMaxima(args, thread, threads);
    barrier();
  }
  toBytes(args, thread, threads);
  barrier();
  products(args, thread, threads);
}

/** Bytes of an image's float32 values. */
// @ts-ignore: decorator
@inline
function imageBytes(args: Conv2dInt8Args): usize {
  return floatBytes((args.height + 2) * (args.width + 2) * args.inStride);
}

/** The largest activation in this thread's part of every image. */
function findMaxima(args: Conv2dInt8Args, thread: i32, threads: i32): void {
  const size = imageBytes(args);
  const count = <i32>(size / 4);
  const first = partition(count, 16, thread, threads);
  const last = partition(count, 16, thread + 1, threads);
  for (let image = 0; image < args.images; image++) {
    const from = args.input + <usize>image * size + floatBytes(first);
    store<f32>(args.maxima + floatBytes(thread * args.images + image), largest(from, last - first));
  }
}

/** The activation that becomes 127 in an image. */
function rangeOf(args: Conv2dInt8Args, image: i32, threads: i32): f32 {
  if (args.range != 0) return args.range;
  let bits = 0;
  for (let thread = 0; thread < threads; thread++) {
    bits = max(bits, load<i32>(args.maxima + floatBytes(thread * args.images + image)));
  }
  return reinterpret<f32>(bits);
}

/** Adding it leaves the nearest integer in a float32's low bits, ties to even: 1.5 · 2^23. */
const ROUND: f32 = 12582912;

/** Converts this thread's part of every image, including the border. */
function toBytes(args: Conv2dInt8Args, thread: i32, threads: i32): void {
  const size = imageBytes(args);
  const count = <i32>(size / 4);
  const first = partition(count, 16, thread, threads);
  const last = partition(count, 16, thread + 1, threads);
  for (let image = 0; image < args.images; image++) {
    const range = rangeOf(args, image, threads);
    const factor = f32x4.splat(range == 0 ? 0 : 127 / range);
    let from = args.input + <usize>image * size + floatBytes(first);
    let out = args.bytes + <usize>image * (size / 4) + first;
    let i = first;
    for (; i + 15 < last; i += 16) {
      const low = i16x8.narrow_i32x4_s(quantize4(from, factor), quantize4(from + V, factor));
      const high = i16x8.narrow_i32x4_s(quantize4(from + 2 * V, factor), quantize4(from + 3 * V, factor));
      v128.store(out, i8x16.narrow_i16x8_u(low, high));
      from += 4 * V;
      out += V;
    }
    // CS is a multiple of 8, so nothing is left after steps of four.
    for (; i < last; i += 4) {
      const four = i16x8.narrow_i32x4_s(quantize4(from, factor), i32x4.splat(0));
      v128.store32_lane(out, i8x16.narrow_i16x8_u(four, four), 0);
      from += V;
      out += 4;
    }
  }
}

/** Four values times the factor as integers from 0 to 127. NaN becomes 127; its image's scale is then NaN. */
// @ts-ignore: decorator
@inline
function quantize4(from: usize, factor: v128): v128 {
  const value = f32x4.pmin(f32x4.splat(127), f32x4.mul(v128.load(from), factor));
  return v128.and(f32x4.add(value, f32x4.splat(ROUND)), i32x4.splat(0xff));
}

function products(args: Conv2dInt8Args, thread: i32, threads: i32): void {
  // With a max-pool, pixels are ordered by windows of four.
  const side = args.pool ? 2 : 1;
  const each = side * side;
  const height = args.height / side;
  const width = args.width / side;
  const outputs = args.images * height * width;
  const parts = min(threads, (each * outputs + MIN_PIXELS - 1) / MIN_PIXELS);
  const groups = threads / parts;
  if (thread >= parts * groups) return;
  const group = thread / parts;
  const panels = panelsOf(args.outChannels);
  const firstPanel = partition(panels, 1, group, groups);
  const lastPanel = partition(panels, 1, group + 1, groups);
  const last = partition(outputs, TILE, (thread % parts) + 1, parts);

  const rows = args.scratch + <usize>(thread * SCRATCH);
  const windows = rows + WINDOWS;
  const scales = rows + SCALES;
  const rowPixels = <usize>(args.width + 2);
  const imagePixels = <usize>(args.height + 2) * rowPixels;
  const inPixel = <usize>args.inStride;
  const outPixel = floatBytes(args.outStride);
  const run: usize = 3 * inPixel;
  const skip = rowPixels * inPixel - run;
  const panelSize: usize = 9 * inPixel * <usize>NR;
  let image = -1;
  for (let output = partition(outputs, TILE, thread % parts, parts); output < last; ) {
    const n = output / width / height;
    if (n != image) {
      image = n;
      scalesOf(args, rangeOf(args, n, threads), scales);
    }
    // A block has pixels of one image.
    const some = min(min(MC / each, last - output), (n + 1) * height * width - output);
    let x = output % width;
    let y = (output / width) % height;
    let entry = rows;
    for (let i = 0; i < some; i++) {
      const to = args.output + <usize>((n * (height + 2) + y + 1) * (width + 2) + x + 1) * outPixel;
      store<usize>(windows + floatBytes(i), to);
      for (let j = 0; j < each; j++) {
        const corner = <usize>n * imagePixels + <usize>(side * y + (j >> 1)) * rowPixels + <usize>(side * x + (j & 1));
        setRow(
          entry,
          args.bytes + corner * inPixel,
          args.pool ? rows + UNPOOLED + ((entry - rows) / ROW_ENTRY) * EIGHT : to,
        );
        entry += ROW_ENTRY;
      }
      if (++x == width) {
        x = 0;
        y++;
      }
    }
    output += some;
    // The last tile's missing entries repeat its last pixel.
    let count = some * each;
    for (; count % TILE != 0; count++) {
      memory.copy(rows + <usize>count * ROW_ENTRY, rows + <usize>(count - 1) * ROW_ENTRY, ROW_ENTRY);
    }
    for (let panel = firstPanel; panel < lastPanel; panel++) {
      const weights = args.weights + <usize>panel * panelSize;
      const column = columnOffset(panel);
      for (let row = 0; row < count; row += TILE) {
        const entries = rows + <usize>row * ROW_ENTRY;
        if (ASC_FEATURE_RELAXED_SIMD) dot6x8(args, entries, weights, run, skip, scales, panel);
        else dot2x8(args, entries, weights, run, skip, scales, panel);
      }
      if (!args.pool) continue;
      for (let i = 0; i < some; i++) {
        const corner = rows + UNPOOLED + <usize>i * (4 * EIGHT);
        const to = load<usize>(windows + floatBytes(i)) + column;
        v128.store(to, max2x2(corner, EIGHT, 2 * EIGHT));
        v128.store(to, max2x2(corner + V, EIGHT, 2 * EIGHT), V);
      }
    }
  }
}

/** The factors of an image's sums, per output channel. */
function scalesOf(args: Conv2dInt8Args, range: f32, out: usize): void {
  const factor = f32x4.splat(range / 127);
  const end = out + floatBytes(args.outStride);
  let weights = args.weightScales;
  let scale = args.scale;
  for (; out < end; out += V, weights += V, scale += V) {
    v128.store(out, f32x4.mul(f32x4.mul(factor, v128.load(weights)), v128.load(scale)));
  }
}

/** Applies scale and epilogue to eight sums of a pixel and stores them. */
function storePixel(args: Conv2dInt8Args, to: usize, s0: v128, s1: v128, scales: usize, panel: i32): void {
  const column = columnOffset(panel);
  const left = args.outChannels - panel * NR;
  let c0 = madd(f32x4.convert_i32x4_s(s0), v128.load(scales + column), v128.load(args.shift + column));
  let c1 = madd(f32x4.convert_i32x4_s(s1), v128.load(scales + column, V), v128.load(args.shift + column, V));
  if (args.relu) {
    c0 = relu4(c0);
    c1 = relu4(c1);
  }
  if (!args.pool) to += column;
  v128.store(to, v128.and(c0, laneMask(left)));
  v128.store(to, v128.and(c1, laneMask(left - 4)), V);
}

/** Four channels of a pixel times those of four outputs, added to their sums. */
// @ts-ignore: decorator
@inline
function dotBytes(weights: v128, pixel: v128, sums: v128): v128 {
  return i32x4.relaxed_dot_i8x16_i7x16_add_s(weights, pixel, sums);
}

// biome-ignore format: a row of the tile a line
function dot6x8(args: Conv2dInt8Args, rows: usize, b: usize, run: usize, skip: usize, scales: usize, panel: i32): void {
  let c00 = i32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00;
  let c30 = c00, c31 = c00, c40 = c00, c41 = c00, c50 = c00, c51 = c00;
  let a0 = rowA(rows, 0), a1 = rowA(rows, 1), a2 = rowA(rows, 2), a3 = rowA(rows, 3), a4 = rowA(rows, 4), a5 = rowA(rows, 5);
  for (let i = 0; i < 3; i++) {
    for (const end = b + run * NR; b < end; b += 2 * V) {
      const b0 = v128.load(b), b1 = v128.load(b, V);
      let x = v128.load_splat<i32>(a0); c00 = dotBytes(b0, x, c00); c01 = dotBytes(b1, x, c01);
      x = v128.load_splat<i32>(a1); c10 = dotBytes(b0, x, c10); c11 = dotBytes(b1, x, c11);
      x = v128.load_splat<i32>(a2); c20 = dotBytes(b0, x, c20); c21 = dotBytes(b1, x, c21);
      x = v128.load_splat<i32>(a3); c30 = dotBytes(b0, x, c30); c31 = dotBytes(b1, x, c31);
      x = v128.load_splat<i32>(a4); c40 = dotBytes(b0, x, c40); c41 = dotBytes(b1, x, c41);
      x = v128.load_splat<i32>(a5); c50 = dotBytes(b0, x, c50); c51 = dotBytes(b1, x, c51);
      a0 += 4; a1 += 4; a2 += 4; a3 += 4; a4 += 4; a5 += 4;
    }
    a0 += skip; a1 += skip; a2 += skip; a3 += skip; a4 += skip; a5 += skip;
  }
  storePixel(args, rowC(rows, 0), c00, c01, scales, panel);
  storePixel(args, rowC(rows, 1), c10, c11, scales, panel);
  storePixel(args, rowC(rows, 2), c20, c21, scales, panel);
  storePixel(args, rowC(rows, 3), c30, c31, scales, panel);
  storePixel(args, rowC(rows, 4), c40, c41, scales, panel);
  storePixel(args, rowC(rows, 5), c50, c51, scales, panel);
}

/** Four channels of a pixel, twice, as 16-bit integers. */
// @ts-ignore: decorator
@inline
function twice(pixel: usize): v128 {
  return i16x8.extend_low_i8x16_u(v128.load_splat<i32>(pixel));
}

/** Adds the products of two channels each, for two adjacent outputs. */
// @ts-ignore: decorator
@inline
function pairs(x: v128, weights: v128, sums: v128): v128 {
  return i32x4.add(sums, i32x4.dot_i16x8_s(x, weights));
}

/** The sums of four outputs from the partial sums of two and two. */
// @ts-ignore: decorator
@inline
function joined(low: v128, high: v128): v128 {
  return i32x4.add(v128.shuffle<i32>(low, high, 0, 2, 4, 6), v128.shuffle<i32>(low, high, 1, 3, 5, 7));
}

// biome-ignore format: a row of the tile a line
function dot2x8(args: Conv2dInt8Args, rows: usize, b: usize, run: usize, skip: usize, scales: usize, panel: i32): void {
  let c00 = i32x4.splat(0), c01 = c00, c02 = c00, c03 = c00, c10 = c00, c11 = c00, c12 = c00, c13 = c00;
  let a0 = rowA(rows, 0), a1 = rowA(rows, 1);
  for (let i = 0; i < 3; i++) {
    for (const end = b + run * NR; b < end; b += 2 * V) {
      const x0 = twice(a0), x1 = twice(a1);
      let w = v128.load8x8_s(b); c00 = pairs(x0, w, c00); c10 = pairs(x1, w, c10);
      w = v128.load8x8_s(b, 8); c01 = pairs(x0, w, c01); c11 = pairs(x1, w, c11);
      w = v128.load8x8_s(b, 16); c02 = pairs(x0, w, c02); c12 = pairs(x1, w, c12);
      w = v128.load8x8_s(b, 24); c03 = pairs(x0, w, c03); c13 = pairs(x1, w, c13);
      a0 += 4; a1 += 4;
    }
    a0 += skip; a1 += skip;
  }
  storePixel(args, rowC(rows, 0), joined(c00, c01), joined(c02, c03), scales, panel);
  storePixel(args, rowC(rows, 1), joined(c10, c11), joined(c12, c13), scales, panel);
}

/** Packs the weights [IC, 3, 3] of output channel `oc` and their scale. The destination starts as zeros. */
export function packConv2dInt8(
  values: usize,
  oc: i32,
  inChannels: i32,
  inStride: i32,
  packed: usize,
  scales: usize,
): void {
  const scale = scaleOf(largest(values, 9 * inChannels), 127, 16);
  const inverse = inverseOf(scale);
  store<f32>(scales + floatBytes(oc), <f32>scale);
  for (let i = 0; i < 9 * inChannels; i++) {
    store<i8>(packed + packedInt8Offset(oc, i, inStride), quantize(load<f32>(values + floatBytes(i)), inverse));
  }
}

/** Reads them back as float32. */
export function unpackConv2dInt8(
  packed: usize,
  scales: usize,
  oc: i32,
  inChannels: i32,
  inStride: i32,
  values: usize,
): void {
  const scale = load<f32>(scales + floatBytes(oc));
  for (let i = 0; i < 9 * inChannels; i++) {
    store<f32>(values + floatBytes(i), scale * <f32>load<i8>(packed + packedInt8Offset(oc, i, inStride)));
  }
}

/** The offset of weight number `index` of [IC, 3, 3] of an output channel, in bytes. */
// @ts-ignore: decorator
@inline
function packedInt8Offset(oc: i32, index: i32, inStride: i32): usize {
  const tap = index % 9;
  const ic = index / 9;
  return <usize>((((oc / NR) * 9 + tap) * inStride + (ic & ~3)) * NR + (oc % NR) * 4 + (ic & 3));
}
