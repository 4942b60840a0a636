import { type Conv2d, isWeighted, type Layer } from '../../program/layers.js';
import { align, BYTES, channelStride } from './layout.js';

/*
 * Which algorithm computes a convolution. Costs count work and bytes in multiply-accumulates of the micro-kernel; the
 * constants were fitted to measured layers (docs/measurements.md has the figures).
 */

/** How a convolution is computed: directly, in integers, or by Winograd's F(m×m, 3×3) with m = 4 or 6. */
export type Algorithm = FloatAlgorithm | 'int8';
type FloatAlgorithm = 'direct' | TileSize;
export type TileSize = 4 | 6;
export const TILE_SIZES: readonly TileSize[] = [4, 6];

/** What a caller may ask for: the cheapest algorithm, the direct one, or one tile size wherever it is possible. */
export type WinogradOption = boolean | TileSize;

/** The input and output transforms of one value at one point of a tile. */
const TRANSFORM: Record<TileSize, number> = { 4: 12, 6: 15 };
/** Reading one packed weight from memory. */
const READ = 4;
/** One product of integers without the relaxed dot product. */
const PRODUCT_INT8 = 0.6;
/** Rows of the micro-kernel's tile: the last tile is computed whole even if some of its rows are missing. */
const ROWS = 4;

/** Points of a tile: a product for each. */
export function pointsOf(size: TileSize): number {
  return (size + 2) ** 2;
}

/** Points along a tile's side that makes the last two outputs, as in assembly/winograd.ts. */
const SHORT_SIDE = 4;

export function tileCount(size: TileSize, images: number, height: number, width: number): number {
  return images * Math.ceil(height / size) * Math.ceil(width / size);
}

/** Products for a pair of channels and one image, including the rows that fill the micro-kernel's last tile. */
function productCount(algorithm: FloatAlgorithm, height: number, width: number): number {
  const whole = (rows: number): number => Math.ceil(rows / ROWS) * ROWS;
  if (algorithm === 'direct') return 9 * whole(height * width);
  const [down, across] = [Math.ceil(height / algorithm), Math.ceil(width / algorithm)];
  const isShort = (length: number): number => Number(length % algorithm === 1 || length % algorithm === 2);
  const [shortRows, shortColumns] = [isShort(height), isShort(width)];
  const lacking = algorithm + 2 - SHORT_SIDE;
  return (
    SHORT_SIDE ** 2 * whole(down * across) +
    SHORT_SIDE * lacking * (whole((down - shortRows) * across) + whole(down * (across - shortColumns))) +
    lacking ** 2 * whole((down - shortRows) * (across - shortColumns))
  );
}

/**
 * The cost of a layer for one image. Threads and the batch play no part, so that an image has the same bits on any number
 * of threads, alone and in a batch.
 */
export function convolutionCost(layer: Conv2d, algorithm: Algorithm, height: number, width: number): number {
  const { inChannels, outChannels } = layer;
  if (algorithm === 'int8') return PRODUCT_INT8 * 9 * inChannels * outChannels * height * width;
  const products = inChannels * outChannels * productCount(algorithm, height, width);
  if (algorithm === 'direct') return products + READ * 9 * inChannels * outChannels;
  const points = pointsOf(algorithm);
  const transforms =
    TRANSFORM[algorithm] * points * tileCount(algorithm, 1, height, width) * (inChannels + outChannels);
  return products + transforms + READ * points * inChannels * outChannels;
}

/** True if a layer's weights can be transformed: not the first layer's, whose pixels are not whole vectors. */
export function canTransform(index: number): boolean {
  return index > 0;
}

/** The cheapest of `algorithms` for one image. */
export function cheapestAlgorithm(
  layer: Conv2d,
  algorithms: readonly FloatAlgorithm[],
  height: number,
  width: number,
): FloatAlgorithm {
  const cost = (algorithm: FloatAlgorithm): number => convolutionCost(layer, algorithm, height, width);
  return algorithms.reduce((best, algorithm) => (cost(algorithm) < cost(best) ? algorithm : best));
}

/** True for an algorithm whose weights are stored transformed, in addition to the direct ones. */
export function isTransformed(algorithm: Algorithm | undefined): algorithm is TileSize {
  return typeof algorithm === 'number';
}

/** Bytes of a layer's transformed weights. */
export function transformedBytes({ inChannels, outChannels }: Conv2d, size: TileSize): number {
  return align(pointsOf(size) * channelStride(inChannels) * channelStride(outChannels) * BYTES);
}

/** Most input channels whose integer sums fit into 32 bits, and most output channels that fit into a thread's scratch. */
const MAX_IN_CHANNELS = 14_000;
const MAX_OUT_CHANNELS = 32_768;

/** How integer convolutions compare with float32: 'fast', 'slow', or 'none' where this runtime computes them wrongly. */
export type Int8Speed = 'fast' | 'slow' | 'none';

/** True if a layer's weights are stored as integers. */
export function hasIntegerWeights(layer: Layer): boolean {
  return isWeighted(layer) && (layer.precision === 'int8' || layer.precision === 'int4');
}

/** True if a layer can run in integers: its input must not be negative, as after a ReLU. */
export function canRunInInt8(layers: readonly Layer[], index: number, speed: Int8Speed): boolean {
  if (speed === 'none') return false;
  const layer = layers[index];
  const before = layers.slice(0, index).findLast(({ op }) => !KEEPS_SIGN.has(op));
  if (before?.op !== 'relu' || !layer || !hasIntegerWeights(layer)) return false;
  if (layer.op === 'linear') return layer.inFeatures <= 9 * MAX_IN_CHANNELS;
  return layer.op === 'conv2d' && layer.inChannels <= MAX_IN_CHANNELS && layer.outChannels <= MAX_OUT_CHANNELS;
}

/** Operations whose output is not negative where their input is not. */
const KEEPS_SIGN: ReadonlySet<Layer['op']> = new Set(['maxPool2d', 'adaptiveAvgPool2d', 'flatten', 'dropout']);

/** Columns of the widest tile of the first layer's kernel. */
const RGB_TILE = 6;

/** True if the direct kernel can fuse the 2×2 max-pool: only that of an image's three channels does. */
export function poolsDirectly({ outChannels }: Conv2d, inStride: number, width: number): boolean {
  return inStride === 3 && width >= RGB_TILE && outChannels % 8 === 0;
}
