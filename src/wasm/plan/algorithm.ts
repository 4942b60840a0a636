import { type Conv2d, isWeighted, type Layer } from '../../program/layers.js';
import { align, BYTES, channelStride } from './layout.js';

/*
 * Which kernel a convolution runs with. Costs count work and bytes, in multiply-accumulates of the micro-kernel; the
 * constants were fitted to measured layers (docs/measurements.md has the figures).
 */

/** How a convolution is computed: directly, in whole numbers, or by Winograd's F(m×m, 3×3) with m = 4 or 6. */
export type Form = Float | 'int8';
/** Those in float32. */
type Float = 'direct' | TileSize;
export type TileSize = 4 | 6;
export const TILE_SIZES: readonly TileSize[] = [4, 6];

/** What a caller may ask for: the cheapest form, the direct one, or one size of tiles wherever it can be. */
export type WinogradOption = boolean | TileSize;

/** The way into a tile's places, or out of them, for one value of a place. */
const TRANSFORM: Record<TileSize, number> = { 4: 12, 6: 15 };
/** Reading one packed weight from memory. */
const READ = 4;
/** One product of whole numbers, without the relaxed dot product. */
const PRODUCT_INT8 = 0.6;
/** Rows of the micro-kernel's tile: its last rows are computed even if they are not there. */
const ROWS = 4;

/** Fewest tiles of a block, and the step in which it grows. */
const LEAST_BLOCK = 24;
const BLOCK_STEP = 6;
export const MAX_BLOCK = 120;
/** Blocks for each thread from which on they need not share one. */
const BLOCKS_EACH = 4;

/** Products of a tile. */
export function placesOf(size: TileSize): number {
  return (size + 2) ** 2;
}

/** Products of a tile's side that makes the last two outputs, as assembly/winograd.ts has it. */
const SHORT_SIDE = 4;

export function tileCount(size: TileSize, images: number, height: number, width: number): number {
  return images * Math.ceil(height / size) * Math.ceil(width / size);
}

/** Products for a pair of channels and one image, with the rows that the micro-kernel computes besides. */
function productCount(form: Float, height: number, width: number): number {
  const whole = (rows: number): number => Math.ceil(rows / ROWS) * ROWS;
  if (form === 'direct') return 9 * whole(height * width);
  const [down, across] = [Math.ceil(height / form), Math.ceil(width / form)];
  const isShort = (length: number): number => Number(length % form === 1 || length % form === 2);
  const [low, narrow] = [isShort(height), isShort(width)];
  const lacking = form + 2 - SHORT_SIDE;
  return (
    SHORT_SIDE ** 2 * whole(down * across) +
    SHORT_SIDE * lacking * (whole((down - low) * across) + whole(down * (across - narrow))) +
    lacking ** 2 * whole((down - low) * (across - narrow))
  );
}

/**
 * The cost of a layer in one form for one image. Threads and the batch play no part: an image has the same bits on any
 * number of threads, and alone as among others.
 */
export function convolutionCost(layer: Conv2d, form: Form, height: number, width: number): number {
  const { inChannels, outChannels } = layer;
  if (form === 'int8') return PRODUCT_INT8 * 9 * inChannels * outChannels * height * width;
  const products = inChannels * outChannels * productCount(form, height, width);
  if (form === 'direct') return products + READ * 9 * inChannels * outChannels;
  const places = placesOf(form);
  const transforms = TRANSFORM[form] * places * tileCount(form, 1, height, width) * (inChannels + outChannels);
  return products + transforms + READ * places * inChannels * outChannels;
}

/** True if a layer's weights can be had in Winograd's forms: the first layer's pixels are no whole vectors. */
export function canTransform(index: number): boolean {
  return index > 0;
}

/** The cheapest of `forms` for one image. */
export function cheapestForm(layer: Conv2d, forms: readonly Float[], height: number, width: number): Float {
  const cost = (form: Float): number => convolutionCost(layer, form, height, width);
  return forms.reduce((best, form) => (cost(form) < cost(best) ? form : best));
}

/** A form in which the weights are there beside the direct one. */
export function isTransformed(form: Form | undefined): form is TileSize {
  return typeof form === 'number';
}

/** Most channels for which whole numbers do: of the input, for sums in 32 bits; of the output, for a thread's scratch. */
const MOST_IN = 14_000;
const MOST_OUT = 32_768;

/** How fast convolutions in whole numbers are beside those in float32; 'none' where this runtime can not have them. */
export type Int8Speed = 'fast' | 'slow' | 'none';

/** True if a layer's weights are whole numbers. */
export function hasWholeNumbers(layer: Layer): boolean {
  return isWeighted(layer) && (layer.precision === 'int8' || layer.precision === 'int4');
}

/** True if a layer can run in whole numbers: what comes in must not be negative, which is so after a ReLU. */
export function canRunInInt8(layers: readonly Layer[], index: number, speed: Int8Speed): boolean {
  if (speed === 'none') return false;
  const layer = layers[index];
  const before = layers.slice(0, index).findLast(({ op }) => !KEEPS_SIGN.has(op));
  if (before?.op !== 'relu' || !layer || !hasWholeNumbers(layer)) return false;
  if (layer.op === 'linear') return layer.inFeatures <= 9 * MOST_IN;
  return layer.op === 'conv2d' && layer.inChannels <= MOST_IN && layer.outChannels <= MOST_OUT;
}

/** Operations that make nothing negative of what is not. */
const KEEPS_SIGN: ReadonlySet<Layer['op']> = new Set(['maxPool2d', 'adaptiveAvgPool2d', 'flatten', 'dropout']);

/** The memory that a convolution in whole numbers works in. */
export interface Int8Workspace {
  /** Bytes of the threads' maxima, and of all. */
  readonly maxima: number;
  readonly bytes: number;
}

export function int8Workspace(
  images: number,
  height: number,
  width: number,
  inStride: number,
  threads: number,
): Int8Workspace {
  const maxima = align(threads * images * BYTES);
  return { maxima, bytes: maxima + align(images * (height + 2) * (width + 2) * inStride) };
}

/** The digits of a linear layer's inputs, and their ranges: `digitBytes` of assembly/linear-int8.ts. */
export function digitBytes(batch: number, inFeatures: number): number {
  const padded = Math.ceil(inFeatures / 32) * 32;
  return align(batch * (2 * padded + padded / 8 + BYTES));
}

/** Columns of the widest tile of the first layer's kernel. */
const RGB_TILE = 6;

/** True if a direct convolution can have the 2×2 max-pool after it in its kernel: that of an image's three channels. */
export function poolsDirectly({ outChannels }: Conv2d, inStride: number, width: number): boolean {
  return inStride === 3 && width >= RGB_TILE && outChannels % 8 === 0;
}

/** Bytes of a layer's weights in Winograd's form. */
export function transformedBytes({ inChannels, outChannels }: Conv2d, size: TileSize): number {
  return align(placesOf(size) * channelStride(inChannels) * channelStride(outChannels) * BYTES);
}

/**
 * How tiles go through the stages. With few channels a block's products stay in L2; with many its weights, read once a
 * block, are what counts. Blocks are even. Threads take blocks of their own where there are enough of them, and share
 * each block otherwise.
 */
export function shareTiles(
  { inChannels, outChannels }: Conv2d,
  tiles: number,
  threads: number,
  mostBlock: number = MAX_BLOCK,
): { block: number; together: boolean } {
  const most = Math.min(mostBlock, Math.max(LEAST_BLOCK, Math.max(inChannels, outChannels) / 2.5));
  // Where memory is short the threads share one block.
  const together = mostBlock < MAX_BLOCK || Math.ceil(tiles / most) < BLOCKS_EACH * threads;
  const own = together ? tiles : Math.ceil(tiles / threads);
  const blocks = Math.ceil(own / most);
  return { block: Math.min(MAX_BLOCK, Math.ceil(own / blocks / BLOCK_STEP) * BLOCK_STEP), together };
}

/** The memory that Winograd's method works in: for each thread a part of its own, then the blocks. */
export interface Workspace {
  /** Bytes of a thread's own part: a tile of inputs, one of outputs, vectors, constants. */
  readonly own: number;
  /** Bytes from one place to the next of a tile's inputs, and of its products. */
  readonly inPlace: number;
  readonly outPlace: number;
  /** Bytes of all. */
  readonly bytes: number;
}

/** Bytes of a line of the L1 cache. */
const LINE = 64;
const VECTOR = 16;
/** Vectors that the constants of a transform take, at most. */
const CONSTANTS = 15;

export function winogradWorkspace(
  size: TileSize,
  { block, together }: { block: number; together: boolean },
  inStride: number,
  outStride: number,
  threads: number,
): Workspace {
  const places = placesOf(size);
  const own = align((places * inStride + size ** 2 * outStride) * BYTES + (places + CONSTANTS) * VECTOR);
  // A line more than needed: the places of one tile must not fall into one set of the L1 cache, nor one place of all tiles.
  const [inPlace, outPlace] = [inStride * BYTES + LINE, outStride * BYTES + LINE];
  const tile = places * (inPlace + outPlace) + 2 * LINE;
  const blocks = together ? 1 : threads;
  return { own, inPlace, outPlace, bytes: threads * own + align(blocks * block * tile) };
}
