import type { Conv2d } from '../layers.js';

/*
 * Which kernel a convolution runs with. Costs are in multiply-accumulates of the micro-kernel; the constants were
 * fitted to measured layers (ARCHITECTURE.md has the figures).
 */

/** Outputs of a side of a Winograd tile, and products of a tile. */
export const TILE = 4;
export const PLACES = 36;

/** Transforming one value of a tile, in or out. */
const TRANSFORM = 24;
/** Reading one packed weight from memory. */
const READ = 6;

/** Rows of tiles that suit every build's micro-kernel. */
const BLOCK_STEP = 12;
const MAX_BLOCK = 120;
/** Blocks for each thread from which on they need not share one. */
const BLOCKS_EACH = 4;

export type Algorithm = 'direct' | 'winograd';

/** True if a layer may run by Winograd at some input size, so that the transformed weights are made. */
export function mayUseWinograd(layer: Conv2d, index: number): boolean {
  // The first layer's pixels are not padded to whole vectors.
  return index > 0 && winogradCost(layer, 1e6) < directCost(layer, 1e6 * TILE * TILE);
}

/** The cheaper algorithm for a layer's input. */
export function chooseAlgorithm(layer: Conv2d, images: number, height: number, width: number): Algorithm {
  const tiles = tileCount(images, height, width);
  return winogradCost(layer, tiles) < directCost(layer, images * height * width) ? 'winograd' : 'direct';
}

function directCost({ inChannels, outChannels }: Conv2d, pixels: number): number {
  return 9 * inChannels * outChannels * (pixels + READ);
}

function winogradCost({ inChannels, outChannels }: Conv2d, tiles: number): number {
  return PLACES * (inChannels * outChannels * (tiles + READ) + TRANSFORM * tiles * (inChannels + outChannels));
}

export function tileCount(images: number, height: number, width: number): number {
  return images * Math.ceil(height / TILE) * Math.ceil(width / TILE);
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
): { block: number; together: boolean } {
  const most = Math.min(MAX_BLOCK, Math.max(2 * BLOCK_STEP, Math.max(inChannels, outChannels) / 3));
  const together = Math.ceil(tiles / most) < BLOCKS_EACH * threads;
  const own = together ? tiles : Math.ceil(tiles / threads);
  const blocks = Math.ceil(own / most);
  return { block: Math.min(MAX_BLOCK, Math.ceil(own / blocks / BLOCK_STEP) * BLOCK_STEP), together };
}
