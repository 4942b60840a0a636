import type { Conv2d } from '../../program/layers.js';
import { pointsOf, type TileSize } from './algorithm.js';
import { align, BYTES } from './layout.js';

/* The memory that a kernel needs in addition to its input and output, and how Winograd's tiles are divided into blocks. */

/** Fewest tiles of a block, the step in which it grows, and the most (MC of assembly/gemm.ts). */
const MIN_BLOCK = 24;
const BLOCK_STEP = 6;
export const MAX_BLOCK = 120;
/** Threads take blocks of their own where each gets at least this many. */
const MIN_BLOCKS_PER_THREAD = 4;

/** How the tiles of a convolution go through the stages of Winograd's method. */
export interface TilePartition {
  /** Tiles of a block. */
  readonly block: number;
  /** The threads share each block; otherwise each has blocks of its own. */
  readonly together: boolean;
}

/**
 * With few channels a block's products should stay in L2; with many, its weights dominate, which are read once per block.
 * Blocks are of even size. Threads take blocks of their own where there are enough, and share each block otherwise.
 */
export function partitionTiles(
  { inChannels, outChannels }: Conv2d,
  tiles: number,
  threads: number,
  maxBlock: number = MAX_BLOCK,
): TilePartition {
  const most = Math.min(maxBlock, Math.max(MIN_BLOCK, Math.max(inChannels, outChannels) / 2.5));
  // Where memory is short the threads share one block.
  const together = maxBlock < MAX_BLOCK || Math.ceil(tiles / most) < MIN_BLOCKS_PER_THREAD * threads;
  const own = together ? tiles : Math.ceil(tiles / threads);
  const blocks = Math.ceil(own / most);
  return { block: Math.min(MAX_BLOCK, Math.ceil(own / blocks / BLOCK_STEP) * BLOCK_STEP), together };
}

/** The workspace of Winograd's method: a part for each thread, then the blocks. */
export interface WinogradWorkspace {
  /** Bytes of a thread's part: the state of its tile, a tile of inputs, one of outputs, vectors, constants. */
  readonly threadBytes: number;
  /** Bytes from one point of a tile's inputs to the next, and of its products. */
  readonly inPoint: number;
  readonly outPoint: number;
  /** Bytes of all. */
  readonly bytes: number;
}

/** Bytes of a line of the L1 cache. */
const LINE = 64;
const VECTOR = 16;
/** TILE_BYTES of assembly/winograd.ts. */
const TILE_BYTES = 192;
/** Most vectors of constants that a transform takes. */
const CONSTANTS = 15;

export function winogradWorkspace(
  size: TileSize,
  { block, together }: TilePartition,
  inStride: number,
  outStride: number,
  threads: number,
): WinogradWorkspace {
  const points = pointsOf(size);
  const threadBytes = align(
    TILE_BYTES + (points * inStride + size ** 2 * outStride) * BYTES + (points + CONSTANTS) * VECTOR,
  );
  // One line more than needed: neither the points of a tile nor one point of all tiles may share a set of the L1 cache.
  const [inPoint, outPoint] = [inStride * BYTES + LINE, outStride * BYTES + LINE];
  const tile = points * (inPoint + outPoint) + 2 * LINE;
  const blocks = together ? 1 : threads;
  return { threadBytes, inPoint, outPoint, bytes: threads * threadBytes + align(blocks * block * tile) };
}

/** The workspace of an integer layer: a convolution's maxima per thread, then its input in bytes, or a linear layer's digits. */
export interface Int8Workspace {
  /** Bytes of the maxima. */
  readonly maxima: number;
  /** Bytes of all. */
  readonly bytes: number;
}

export function conv2dInt8Workspace(
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
export function linearInt8Workspace(batch: number, inFeatures: number): Int8Workspace {
  const padded = Math.ceil(inFeatures / 32) * 32;
  return { maxima: 0, bytes: align(batch * (2 * padded + padded / 8 + BYTES)) };
}
