/*
 * conv2d by Winograd's minimal filtering: a tile of m×m outputs takes (m + 2)² multiplications per pair of channels instead
 * of 9 m² (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).
 *
 *   Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A      d: (m + 2)² inputs, g: 3×3 weights, Y: m² outputs
 *
 * The products are (m + 2)² matrix products, one for each point: (tiles, IC) · (IC, OC). Blocks of tiles go through all
 * three stages while they are in a cache. m is 4 or 6; winograd-lines.ts applies the transforms of winograd4.ts and
 * winograd6.ts to the lines of a tile.
 *
 * Where only one or two outputs of a side are left, the last tile makes two: F(2, 3) shares four of its points with
 * F(m, 3), and so their products and weights, and needs no others.
 *
 * Activations are padded NHWC, as in conv2d.ts. Weights are packed by winograd-pack.ts.
 */
import { ConvolutionArgs } from './conv2d';
import { SCRATCH, gemmBlock, panelsOf, rowEntry, setProduct, setRow } from './gemm';
import { V, floatBytes, madd } from './simd';
import { barrier, partition } from './threads';
import { NR, ROW_ENTRY } from './tile';
import {
  LinePass,
  pointsOf,
  setInputPass,
  setOutputPass,
  sharedPoints,
  transformLines,
  writeConstants,
} from './winograd-lines';

@unmanaged
export class WinogradArgs extends ConvolutionArgs {
  /** The weights as conv2d takes them, for tiles with values that are not finite. */
  direct: usize;
  /** `threadBytes` for each thread, then the inputs and products of each block of tiles. */
  workspace: usize;
  /** m: 4 or 6 */
  size: i32;
  /** Tiles of a block, at most MC. */
  block: i32;
  /** N · ⌈H/m⌉ · ⌈W/m⌉ */
  tiles: i32;
  /** The threads share each block; otherwise each thread has blocks of its own. */
  together: i32;
  /** Bytes of a thread's part: a `Tile`, a tile of inputs, one of outputs, (m + 2)² vectors, the constants. */
  threadBytes: i32;
  /** Bytes from one point of a tile's inputs to the next, and of its products. */
  inPoint: i32;
  outPoint: i32;
}

/** The tile that a thread works on, at the start of the thread's part of the workspace. */
@unmanaged
class Tile {
  /** Its image, its first output there, and how many rows and columns of outputs it makes. */
  image: i32;
  top: i32;
  left: i32;
  rows: i32;
  columns: i32;
  /** Where its pixels go, in the output or its max-pool, and how many of them exist. */
  target: usize;
  targetRow: usize;
  targetRows: i32;
  targetColumns: i32;
  /** The thread's buffers: a tile of inputs at the edge of an image, one of outputs, the vectors and constants. */
  edge: usize;
  outputs: usize;
  vectors: usize;
}

/** Bytes of the `Tile` and the two passes of a transform, each in a cache line. */
const PASS_1: usize = 64;
const PASS_2: usize = 128;
const TILE_BYTES: usize = 192;

/** Pass 1 or 2 of the transform of a tile. */
// @ts-ignore: decorator
@inline
function passOf(tile: Tile, pass: usize): LinePass {
  return changetype<LinePass>(changetype<usize>(tile) + pass);
}

/** Tiles along a side of `length` pixels. */
// @ts-ignore: decorator
@inline
function tilesAlong(size: i32, length: i32): i32 {
  return (length + size - 1) / size;
}

/** Bytes from one tile of a block to the next: a line more than its points, so that not all map to one set of L1. */
// @ts-ignore: decorator
@inline
function tileBytes(size: i32, point: usize): usize {
  return <usize>pointsOf(size) * point + 64;
}

/**
 * With `together` the threads go through each block together: where there are few tiles, and where the weights do not fit
 * into a cache, so that they are read once. Otherwise each thread has tiles of its own.
 */
export function winograd(args: WinogradArgs, thread: i32, threads: i32): void {
  const together = args.together != 0;
  const size = args.size;
  const block = args.block;
  const inPoint = <usize>args.inPoint;
  const outPoint = <usize>args.outPoint;
  const inTile = tileBytes(size, inPoint);
  const outTile = tileBytes(size, outPoint);
  const tile = changetype<Tile>(args.workspace + <usize>(thread * args.threadBytes));
  tile.edge = changetype<usize>(tile) + TILE_BYTES;
  tile.outputs = tile.edge + floatBytes(pointsOf(size) * args.inStride);
  tile.vectors = tile.outputs + floatBytes(size * size * args.outStride);
  writeConstants(size, tile.vectors);
  const blocks = args.workspace + <usize>(threads * args.threadBytes);
  const inputs = blocks + (together ? 0 : <usize>(thread * block) * (inTile + outTile));
  const sums = inputs + <usize>block * inTile;
  const scratch = args.scratch + <usize>(thread * SCRATCH);

  const from = together ? 0 : partition(args.tiles, 1, thread, threads);
  const to = together ? args.tiles : partition(args.tiles, 1, thread + 1, threads);
  const part = together ? thread : 0;
  const parts = together ? threads : 1;
  for (let first = from; first < to; first += block) {
    const count = min(block, to - first);
    const firstTile = partition(count, 1, part, parts);
    const lastTile = partition(count, 1, part + 1, parts);
    for (let t = firstTile; t < lastTile; t++) {
      selectTile(args, tile, first + t);
      transformInput(args, tile, inputs + <usize>t * inTile);
    }
    if (together) barrier();
    multiply(args, first, count, part, parts, scratch, inputs, sums);
    if (together) barrier();
    for (let t = firstTile; t < lastTile; t++) {
      selectTile(args, tile, first + t);
      transformOutput(args, tile, sums + <usize>t * outTile, scratch);
    }
  }
}

/** Makes tile number `index` the one that the thread works on. */
function selectTile(args: WinogradArgs, tile: Tile, index: i32): void {
  const size = args.size;
  const across = tilesAlong(size, args.width);
  const down = tilesAlong(size, args.height);
  tile.image = index / across / down;
  tile.top = ((index / across) % down) * size;
  tile.left = (index % across) * size;
  tile.rows = outputsOf(size, args.height - tile.top);
  tile.columns = outputsOf(size, args.width - tile.left);
}

/** Outputs along a side of a tile where `rest` are left. */
// @ts-ignore: decorator
@inline
function outputsOf(size: i32, rest: i32): i32 {
  return rest > 2 ? size : 2;
}

/** How many tiles before number `end` are in the last row of their image. */
// @ts-ignore: decorator
@inline
function inLastRow(end: i32, across: i32, down: i32): i32 {
  return (end / (across * down)) * across + max(0, (end % (across * down)) - across * (down - 1));
}

/**
 * Part `part` of the products of a block. A point has a product for all tiles but the short ones that lack it; the products
 * of all points in sequence, panel by panel, are divided into even parts.
 */
function multiply(
  args: WinogradArgs,
  first: i32,
  count: i32,
  part: i32,
  parts: i32,
  scratch: usize,
  inputs: usize,
  sums: usize,
): void {
  const size = args.size;
  const side = size + 2;
  const inStride = args.inStride;
  const inPoint = <usize>args.inPoint;
  const outPoint = <usize>args.outPoint;
  const inTile = tileBytes(size, inPoint);
  const outTile = tileBytes(size, outPoint);
  const panels = panelsOf(args.outChannels);
  const weightPoint = floatBytes(panels * NR * inStride);
  const across = tilesAlong(size, args.width);
  const down = tilesAlong(size, args.height);
  const end = first + count;
  const shortRow = outputsOf(size, args.height - (down - 1) * size) < size;
  const shortColumn = outputsOf(size, args.width - (across - 1) * size) < size;
  // How many of the block's tiles lack rows, columns, or both.
  const shortTall = shortRow ? inLastRow(end, across, down) - inLastRow(first, across, down) : 0;
  const shortWide = shortColumn ? end / across - first / across : 0;
  const both = shortRow && shortColumn ? end / (across * down) - first / (across * down) : 0;
  const lacking = side - 4;
  const all = <i64>panels * (count * side * side - (shortTall + shortWide) * side * lacking + both * lacking * lacking);
  const from = <i32>((all * part) / parts);
  const to = <i32>((all * (part + 1)) / parts);
  const shared = sharedPoints(size);
  let done = 0;
  for (let point = 0; point < side * side && done < to; point++) {
    // Points that only tiles of full height or full width have.
    const tall = !((shared >> (point / side)) & 1);
    const wide = !((shared >> (point % side)) & 1);
    const tiles = count - (tall ? shortTall : 0) - (wide ? shortWide : 0) + (tall && wide ? both : 0);
    if (tiles == 0) continue;
    const firstPanel = max(0, from - done + tiles - 1) / tiles;
    const lastPanel = min(panels, (to - done + tiles - 1) / tiles);
    done += tiles * panels;
    if (firstPanel >= lastPanel) continue;
    let entry = rowEntry(scratch, 0);
    let input = inputs + <usize>point * inPoint;
    let sum = sums + <usize>point * outPoint;
    for (let t = first; t < end; t++) {
      const lacks =
        (tall && shortRow && (t / across) % down == down - 1) || (wide && shortColumn && t % across == across - 1);
      if (!lacks) {
        setRow(entry, input, sum);
        entry += ROW_ENTRY;
      }
      input += inTile;
      sum += outTile;
    }
    setProduct(scratch, args.weights + <usize>point * weightPoint, 1, inStride, 0, 0);
    gemmBlock(scratch, tiles, firstPanel, lastPanel);
  }
}

/** Bᵀ d B of the tile, for all channels: point p goes to `out + p · inPoint`. */
function transformInput(args: WinogradArgs, tile: Tile, out: usize): void {
  const rows = tile.rows + 2;
  const columns = tile.columns + 2;
  const pixel = floatBytes(args.inStride);
  const paddedWidth = args.width + 2;
  const paddedHeight = args.height + 2;
  let row = <usize>paddedWidth * pixel;
  let from = args.input + <usize>(tile.image * paddedHeight + tile.top) * row + <usize>tile.left * pixel;
  if (tile.top + rows > paddedHeight || tile.left + columns > paddedWidth) {
    // Beyond the border of zeros everything is zero too.
    memory.fill(tile.edge, 0, <usize>(rows * columns) * pixel);
    const bytes = <usize>min(columns, paddedWidth - tile.left) * pixel;
    for (let i = 0; i < min(rows, paddedHeight - tile.top); i++) {
      memory.copy(tile.edge + <usize>(i * columns) * pixel, from + <usize>i * row, bytes);
    }
    from = tile.edge;
    row = <usize>columns * pixel;
  }
  const first = passOf(tile, PASS_1);
  const second = passOf(tile, PASS_2);
  const vectors = tile.vectors;
  setInputPass(first, second, args.size, tile.rows, tile.columns, pixel, row, args.inPoint);
  for (let c: usize = 0; c < pixel; c += V) {
    transformLines(first, from + c, vectors, vectors);
    transformLines(second, vectors, out + c, vectors);
  }
}

/** Aᵀ m A of the tile, the epilogue, and the way into the output. */
function transformOutput(args: WinogradArgs, tile: Tile, from: usize, scratch: usize): void {
  const pixel = floatBytes(args.outStride);
  const vectors = tile.vectors;
  const first = passOf(tile, PASS_1);
  const second = passOf(tile, PASS_2);
  setOutputPass(first, second, args.size, tile.rows, tile.columns, args.outPoint);
  locate(args, tile);
  let largest = i32x4.splat(0);
  for (let c: usize = 0; c < pixel; c += V) {
    transformLines(first, from + c, vectors, vectors);
    // In place: a line is read before its results are written, which lie at or before it.
    transformLines(second, vectors, vectors, vectors);
    largest = i32x4.max_u(largest, storeVector(args, tile, c));
  }
  // Twice the bits of an infinity, whose sign is shifted out; those of a NaN are more.
  if (v128.any_true(i32x4.ge_u(largest, i32x4.splat(0xff000000)))) recompute(args, tile, scratch);
}

/** Finds where the tile goes, in the output or its max-pool, and how many of its pixels exist. */
function locate(args: WinogradArgs, tile: Tile): void {
  const halves = args.pool ? 2 : 1;
  const width = args.width / halves;
  const height = args.height / halves;
  const y = tile.top / halves;
  const x = tile.left / halves;
  const pixel = floatBytes(args.outStride);
  const row = <usize>(width + 2) * pixel;
  tile.targetRow = row;
  tile.target = args.output + <usize>(tile.image * (height + 2) + y + 1) * row + <usize>(x + 1) * pixel;
  tile.targetRows = min(tile.rows / halves, height - y);
  tile.targetColumns = min(tile.columns / halves, width - x);
}

/**
 * Applies the epilogue to four channels of the tile, from byte `c` of a pixel on, and stores them in the output. Returns the
 * largest of their bits, doubled: the cheapest way to see whether all are finite.
 */
// @ts-ignore: decorator
@inline
function storeVector(args: WinogradArgs, tile: Tile, c: usize): v128 {
  const pixel = floatBytes(args.outStride);
  const line = <usize>args.size * V;
  const pool = args.pool != 0;
  const row = tile.targetRow;
  const rows = tile.targetRows;
  const columns = tile.targetColumns;
  const scale = v128.load(args.scale + c);
  const shift = v128.load(args.shift + c);
  const lowest = f32x4.splat(args.relu ? 0 : -Infinity);
  let largest = i32x4.splat(0);
  let from = tile.vectors;
  let to = tile.target + c;
  for (let i = 0; i < rows; i++) {
    let corner = from;
    let pixelTo = to;
    for (let j = 0; j < columns; j++) {
      let value = madd(v128.load(corner), scale, shift);
      largest = i32x4.max_u(largest, i32x4.shl(value, 1));
      if (pool) {
        const right = madd(v128.load(corner, V), scale, shift);
        const below = madd(v128.load(corner + line), scale, shift);
        const last = madd(v128.load(corner + line, V), scale, shift);
        largest = i32x4.max_u(largest, i32x4.max_u(i32x4.shl(right, 1), i32x4.shl(below, 1)));
        largest = i32x4.max_u(largest, i32x4.shl(last, 1));
        // A NaN may get lost here; the tile is then recomputed.
        value = f32x4.pmax(f32x4.pmax(value, right), f32x4.pmax(below, last));
        corner += V;
      }
      v128.store(pixelTo, f32x4.pmax(value, lowest));
      corner += V;
      pixelTo += pixel;
    }
    from += pool ? 2 * line : line;
    to += row;
  }
  return largest;
}

/**
 * Computes the tile again as conv2d does. A NaN or an infinity spreads to many points of its tile, and would make outputs NaN
 * that do not depend on it; PyTorch has NaN only in those that do.
 */
function recompute(args: WinogradArgs, tile: Tile, scratch: usize): void {
  const size = args.size;
  const inPixel = floatBytes(args.inStride);
  const outPixel = floatBytes(args.outStride);
  const row = <usize>(args.width + 2) * inPixel;
  const input = args.input + <usize>(tile.image * (args.height + 2)) * row;
  for (let i = 0; i < size * size; i++) {
    const y = min(tile.top + i / size, args.height - 1);
    const x = min(tile.left + (i % size), args.width - 1);
    setRow(rowEntry(scratch, i), input + <usize>y * row + <usize>x * inPixel, tile.outputs + <usize>i * outPixel);
  }
  setProduct(scratch, args.direct, 3, 3 * args.inStride, row, changetype<usize>(args));
  gemmBlock(scratch, size * size, 0, panelsOf(args.outChannels));
  for (let c: usize = 0; c < outPixel; c += V) storeTile(args, tile, c);
}

/** Stores four channels of a recomputed tile, from byte `c` of a pixel on, in the output. */
function storeTile(args: WinogradArgs, tile: Tile, c: usize): void {
  const pixel = floatBytes(args.outStride);
  const line = <usize>args.size * pixel;
  const pool = args.pool != 0;
  let from = tile.outputs + c;
  let to = tile.target + c;
  for (let i = 0; i < tile.targetRows; i++) {
    let corner = from;
    let pixelTo = to;
    for (let j = 0; j < tile.targetColumns; j++) {
      let value = v128.load(corner);
      if (pool) {
        const top = f32x4.max(value, v128.load(corner + pixel));
        const bottom = f32x4.max(v128.load(corner + line), v128.load(corner + line + pixel));
        value = f32x4.max(top, bottom);
        corner += pixel;
      }
      v128.store(pixelTo, value);
      corner += pixel;
      pixelTo += pixel;
    }
    from += pool ? 2 * line : line;
    to += tile.targetRow;
  }
}
