/*
 * conv2d in whole numbers: weights from −127 to 127 with a scale for each output channel, activations from 0 to 127 with
 * one for each image. Sums of products are exact in 32 bits, so that every build, machine and number of threads gives the
 * same ones (Jacob et al., "Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference",
 * 2018). Activations come from a ReLU, so none is negative; seven bits of them are what the relaxed dot product takes on
 * every machine alike.
 *
 *   out[n, y, x, oc] = epilogue(scale · Σ kh, kw, ic  q[n, y + kh − 1, x + kw − 1, ic] · weight[oc, ic, kh, kw])
 *
 * The input is padded NHWC float32, as in conv2d.ts, and is first brought into bytes of the same layout. There are no
 * packed rows: four channels of a pixel are a 32-bit load, and a tile reads its pixels where they lie.
 * Weights are packed as (⌈OC/8⌉, 3, 3, CS/4, 8, 4).
 */
import { inverseOf, largest, quantise, scaleOf } from './expand';
import { MC, SCRATCH, panelsOf } from './gemm';
import { max2x2 } from './pool';
import { V, laneMask, madd, relu4 } from './simd';
import { barrier, partition } from './threads';
import { NR, ROW, rowA, rowC } from './tile';

@unmanaged
export class Conv2dInt8Args {
  input: usize;
  output: usize;
  weights: usize;
  /** Of the weights, per output channel. */
  weightScales: usize;
  /** The epilogue's, per output channel, as many as the output's CS. */
  scale: usize;
  shift: usize;
  relu: i32;
  /** The output is the 2×2 max-pool of the convolution's. */
  pool: i32;
  height: i32;
  width: i32;
  inStride: i32;
  outChannels: i32;
  outStride: i32;
  images: i32;
  /** SCRATCH bytes for each thread. */
  scratch: usize;
  /** For each thread a float32 for each image. */
  maxima: usize;
  /** N · (H + 2) · (W + 2) · CS bytes. */
  bytes: usize;
  /** The largest activation that is told from larger ones; 0: each image's own. */
  range: f32;
}

/** Pixels of a tile: with the relaxed dot product, and without. */
const TILE: i32 = ASC_FEATURE_RELAXED_SIMD ? 6 : 2;
/** Fewest pixels that are worth a thread: threads beyond that share the output channels. */
const SHARE: i32 = 24;
/** Bytes of eight values. */
const EIGHT: usize = 2 * V;
/** What a thread's scratch holds after the table of rows: a block's outputs that wait for the pool, where pools go, scales. */
const POOLED: usize = <usize>MC * ROW;
const WINDOWS: usize = POOLED + <usize>MC * EIGHT;
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
  return <usize>(args.height + 2) * <usize>(args.width + 2) * <usize>args.inStride << 2;
}

/** This thread's share of every image's largest activation. */
function findMaxima(args: Conv2dInt8Args, thread: i32, threads: i32): void {
  const size = imageBytes(args), count = <i32>(size >> 2);
  const first = partition(count, 16, thread, threads), last = partition(count, 16, thread + 1, threads);
  for (let image = 0; image < args.images; image++) {
    const from = args.input + <usize>image * size + (<usize>first << 2);
    store<f32>(args.maxima + (<usize>(thread * args.images + image) << 2), largest(from, last - first));
  }
}

/** What 127 stands for in an image. */
function rangeOf(args: Conv2dInt8Args, image: i32, threads: i32): f32 {
  if (args.range != 0) return args.range;
  let bits = 0;
  for (let thread = 0; thread < threads; thread++) {
    bits = max(bits, load<i32>(args.maxima + (<usize>(thread * args.images + image) << 2)));
  }
  return reinterpret<f32>(bits);
}

/** Adding it leaves the nearest whole number in a float32's low bits, ties to even: 1.5 · 2^23. */
const ROUND: f32 = 12582912;

/** This thread's share of every image, border and all. */
function toBytes(args: Conv2dInt8Args, thread: i32, threads: i32): void {
  const size = imageBytes(args), count = <i32>(size >> 2);
  const first = partition(count, 16, thread, threads), last = partition(count, 16, thread + 1, threads);
  for (let image = 0; image < args.images; image++) {
    const range = rangeOf(args, image, threads);
    const factor = f32x4.splat(range == 0 ? 0 : 127 / range);
    let from = args.input + <usize>image * size + (<usize>first << 2);
    let out = args.bytes + <usize>image * (size >> 2) + first;
    let i = first;
    for (; i + 15 < last; i += 16) {
      const low = i16x8.narrow_i32x4_s(whole(from, factor), whole(from + V, factor));
      const high = i16x8.narrow_i32x4_s(whole(from + 2 * V, factor), whole(from + 3 * V, factor));
      v128.store(out, i8x16.narrow_i16x8_u(low, high));
      from += 4 * V;
      out += V;
    }
    // CS is a multiple of 8, so four at a time come out even.
    for (; i < last; i += 4) {
      const four = i16x8.narrow_i32x4_s(whole(from, factor), i32x4.splat(0));
      v128.store32_lane(out, i8x16.narrow_i16x8_u(four, four), 0);
      from += V;
      out += 4;
    }
  }
}

/** Four values times the factor as whole numbers from 0 to 127. NaN becomes 127: its image's scale is NaN then. */
// @ts-ignore: decorator
@inline
function whole(from: usize, factor: v128): v128 {
  const value = f32x4.pmin(f32x4.splat(127), f32x4.mul(v128.load(from), factor));
  return v128.and(f32x4.add(value, f32x4.splat(ROUND)), i32x4.splat(0xff));
}

function products(args: Conv2dInt8Args, thread: i32, threads: i32): void {
  // With a max-pool pixels come window by window, four each.
  const side = args.pool ? 2 : 1, each = side * side;
  const height = args.height / side, width = args.width / side, outputs = args.images * height * width;
  const parts = min(threads, (each * outputs + SHARE - 1) / SHARE), groups = threads / parts;
  if (thread >= parts * groups) return;
  const group = thread / parts, panels = panelsOf(args.outChannels);
  const firstPanel = partition(panels, 1, group, groups), lastPanel = partition(panels, 1, group + 1, groups);
  const last = partition(outputs, TILE, (thread % parts) + 1, parts);

  const rows = args.scratch + <usize>(thread * SCRATCH), windows = rows + WINDOWS, scales = rows + SCALES;
  const rowPixels = <usize>(args.width + 2), imagePixels = <usize>(args.height + 2) * rowPixels;
  const inPixel = <usize>args.inStride, outPixel = <usize>args.outStride << 2;
  const run: usize = 3 * inPixel, skip = rowPixels * inPixel - run, panelBytes: usize = 9 * inPixel * <usize>NR;
  let image = -1;
  for (let output = partition(outputs, TILE, thread % parts, parts); output < last; ) {
    const n = output / width / height;
    if (n != image) {
      image = n;
      scalesOf(args, rangeOf(args, n, threads), scales);
    }
    // A block has pixels of one image.
    const some = min(min(MC / each, last - output), (n + 1) * height * width - output);
    let x = output % width, y = (output / width) % height, entry = rows;
    for (let i = 0; i < some; i++) {
      const to = args.output + <usize>((n * (height + 2) + y + 1) * (width + 2) + x + 1) * outPixel;
      store<usize>(windows + (<usize>i << 2), to);
      for (let j = 0; j < each; j++) {
        const corner = <usize>n * imagePixels + <usize>(side * y + (j >> 1)) * rowPixels + <usize>(side * x + (j & 1));
        store<usize>(entry, args.bytes + corner * inPixel);
        store<usize>(entry, args.pool ? rows + POOLED + (entry - rows) / ROW * EIGHT : to, 4);
        entry += ROW;
      }
      if (++x == width) {
        x = 0;
        y++;
      }
    }
    output += some;
    // The last tile's entries that are over: its last pixel again.
    let count = some * each;
    for (; count % TILE != 0; count++) memory.copy(rows + <usize>count * ROW, rows + <usize>(count - 1) * ROW, ROW);
    for (let panel = firstPanel; panel < lastPanel; panel++) {
      const weights = args.weights + <usize>panel * panelBytes, column = <usize>panel << 5;
      for (let row = 0; row < count; row += TILE) {
        const entries = rows + <usize>row * ROW;
        if (ASC_FEATURE_RELAXED_SIMD) dot6x8(args, entries, weights, run, skip, scales, panel);
        else dot2x8(args, entries, weights, run, skip, scales, panel);
      }
      if (!args.pool) continue;
      for (let i = 0; i < some; i++) {
        const corner = rows + POOLED + <usize>i * (4 * EIGHT), to = load<usize>(windows + (<usize>i << 2)) + column;
        v128.store(to, max2x2(corner, EIGHT, 2 * EIGHT));
        v128.store(to, max2x2(corner + V, EIGHT, 2 * EIGHT), V);
      }
    }
  }
}

/** What a sum of an image is multiplied by, per output channel. */
function scalesOf(args: Conv2dInt8Args, range: f32, out: usize): void {
  const factor = f32x4.splat(range / 127), end = out + (<usize>args.outStride << 2);
  let weights = args.weightScales, scale = args.scale;
  for (; out < end; out += V, weights += V, scale += V) {
    v128.store(out, f32x4.mul(f32x4.mul(factor, v128.load(weights)), v128.load(scale)));
  }
}

/** Eight sums of a pixel on their way out. */
function finish(args: Conv2dInt8Args, to: usize, s0: v128, s1: v128, scales: usize, panel: i32): void {
  const column = <usize>panel << 5, left = args.outChannels - panel * NR;
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
function dot(weights: v128, pixel: v128, sums: v128): v128 {
  return i32x4.relaxed_dot_i8x16_i7x16_add_s(weights, pixel, sums);
}

function dot6x8(args: Conv2dInt8Args, rows: usize, b: usize, run: usize, skip: usize, scales: usize, panel: i32): void {
  let c00 = i32x4.splat(0), c01 = c00, c10 = c00, c11 = c00, c20 = c00, c21 = c00;
  let c30 = c00, c31 = c00, c40 = c00, c41 = c00, c50 = c00, c51 = c00;
  let a0 = rowA(rows, 0), a1 = rowA(rows, 1), a2 = rowA(rows, 2), a3 = rowA(rows, 3), a4 = rowA(rows, 4), a5 = rowA(rows, 5);
  for (let i = 0; i < 3; i++) {
    for (const end = b + run * NR; b < end; b += 2 * V) {
      const b0 = v128.load(b), b1 = v128.load(b, V);
      let x = v128.load_splat<i32>(a0); c00 = dot(b0, x, c00); c01 = dot(b1, x, c01);
      x = v128.load_splat<i32>(a1); c10 = dot(b0, x, c10); c11 = dot(b1, x, c11);
      x = v128.load_splat<i32>(a2); c20 = dot(b0, x, c20); c21 = dot(b1, x, c21);
      x = v128.load_splat<i32>(a3); c30 = dot(b0, x, c30); c31 = dot(b1, x, c31);
      x = v128.load_splat<i32>(a4); c40 = dot(b0, x, c40); c41 = dot(b1, x, c41);
      x = v128.load_splat<i32>(a5); c50 = dot(b0, x, c50); c51 = dot(b1, x, c51);
      a0 += 4; a1 += 4; a2 += 4; a3 += 4; a4 += 4; a5 += 4;
    }
    a0 += skip; a1 += skip; a2 += skip; a3 += skip; a4 += skip; a5 += skip;
  }
  finish(args, rowC(rows, 0), c00, c01, scales, panel);
  finish(args, rowC(rows, 1), c10, c11, scales, panel);
  finish(args, rowC(rows, 2), c20, c21, scales, panel);
  finish(args, rowC(rows, 3), c30, c31, scales, panel);
  finish(args, rowC(rows, 4), c40, c41, scales, panel);
  finish(args, rowC(rows, 5), c50, c51, scales, panel);
}

/** Four channels of a pixel, twice, as 16-bit words. */
// @ts-ignore: decorator
@inline
function twice(pixel: usize): v128 {
  return i16x8.extend_low_i8x16_u(v128.load_splat<i32>(pixel));
}

/** Sums of two channels each, of two outputs side by side. */
// @ts-ignore: decorator
@inline
function pairs(x: v128, weights: v128, sums: v128): v128 {
  return i32x4.add(sums, i32x4.dot_i16x8_s(x, weights));
}

/** The sums of four outputs from those of two and two. */
// @ts-ignore: decorator
@inline
function joined(low: v128, high: v128): v128 {
  return i32x4.add(v128.shuffle<i32>(low, high, 0, 2, 4, 6), v128.shuffle<i32>(low, high, 1, 3, 5, 7));
}

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
  finish(args, rowC(rows, 0), joined(c00, c01), joined(c02, c03), scales, panel);
  finish(args, rowC(rows, 1), joined(c10, c11), joined(c12, c13), scales, panel);
}

/** Packs the weights [IC, 3, 3] of output channel `oc`, and their scale. The destination starts as zeros. */
export function packConv2dInt8(values: usize, oc: i32, inChannels: i32, inStride: i32, packed: usize, scales: usize): void {
  const scale = scaleOf(largest(values, 9 * inChannels), 127, 16), inverse = inverseOf(scale);
  store<f32>(scales + (<usize>oc << 2), <f32>scale);
  for (let i = 0; i < 9 * inChannels; i++) {
    store<i8>(packed + packedAddress(oc, i, inStride), quantise(load<f32>(values + (<usize>i << 2)), inverse));
  }
}

/** The way back. */
export function unpackConv2dInt8(
  packed: usize, scales: usize, oc: i32, inChannels: i32, inStride: i32, values: usize,
): void {
  const scale = load<f32>(scales + (<usize>oc << 2));
  for (let i = 0; i < 9 * inChannels; i++) {
    store<f32>(values + (<usize>i << 2), scale * <f32>load<i8>(packed + packedAddress(oc, i, inStride)));
  }
}

/** Where weight number `index` of [IC, 3, 3] of an output channel lies. */
// @ts-ignore: decorator
@inline
function packedAddress(oc: i32, index: i32, inStride: i32): usize {
  const tap = index % 9, ic = index / 9;
  return <usize>((((oc / NR) * 9 + tap) * inStride + (ic & ~3)) * NR + (oc % NR) * 4 + (ic & 3));
}
