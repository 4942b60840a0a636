/*
 * conv2d by Winograd's minimal filtering: a tile of m×m outputs takes (m + 2)² multiplications for each pair of
 * channels instead of 9 m² (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).
 *
 *   Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A      d: (m + 2)² inputs, g: 3×3 weights, Y: m² outputs
 *
 * The products are (m + 2)² matrix products, one for each place of d: (tiles, IC) · (IC, OC). Blocks of tiles go
 * through all three stages while they are in a cache. m is 4 or 6: winograd4.ts and winograd6.ts transform
 * a line, for its columns and then its rows a tile goes through here.
 *
 * Where only one or two outputs of a side are left, its last tile makes two: F(2, 3) has four of the points that F(m, 3) has,
 * and so the products at those places, with the same weights, are all that it takes.
 *
 * Activations are padded NHWC, as in conv2d.ts.
 */
import { SCRATCH, gemmBlock, panelsOf } from './gemm';
import { V, madd } from './simd';
import { barrier, partition } from './threads';
import { NR, ROW, setEpilogue } from './tile';
import { SHORT4, constants4, inputLine4, outputLine4, shortInput4, shortOutput4 } from './winograd4';
import { SHORT6, constants6, inputLine6, outputLine6, shortInput6, shortOutput6 } from './winograd6';

@unmanaged
export class WinogradArgs {
  input: usize;
  output: usize;
  /** As `packWinograd` of winograd-pack.ts makes them. */
  weights: usize;
  /** As conv2d takes them, for tiles whose values are not finite. */
  direct: usize;
  /** Per output channel, as many as the output's CS. */
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
  /** SCRATCH bytes for each thread. */
  scratch: usize;
  /** `threadBytes` bytes for each thread, and then for each block its tiles' inputs, and their products. */
  workspace: usize;
  /** m: 4 or 6 */
  size: i32;
  /** Tiles of a block, at most MC. */
  block: i32;
  /** N · ⌈H/m⌉ · ⌈W/m⌉ */
  tiles: i32;
  /** The threads share each block; otherwise there is one for each thread. */
  together: i32;
  /** Bytes that a thread needs for itself: a tile of inputs, one of outputs, (m + 2)² vectors, the constants. */
  threadBytes: i32;
  /** Bytes from one place to the next of a tile's inputs, and of its products. */
  inPoint: i32;
  outPoint: i32;
}

/** Products of a tile. */
// @ts-ignore: decorator
@inline
export function pointsOf(size: i32): i32 {
  return (size + 2) * (size + 2);
}

/** The places along a side that a tile of two outputs has, bit by bit. */
// @ts-ignore: decorator
@inline
function shortPlaces(size: i32): i32 {
  return size == 4 ? SHORT4 : SHORT6;
}

/** Tiles along a side of `length` pixels. */
// @ts-ignore: decorator
@inline
function tilesAlong(size: i32, length: i32): i32 {
  return (length + size - 1) / size;
}

/** Bytes from one tile of a block to the next: a line more than its places, so that not all fall into one set of L1. */
// @ts-ignore: decorator
@inline
function tileBytes(size: i32, place: usize): usize {
  return <usize>pointsOf(size) * place + 64;
}

/**
 * With `together` the threads go through each block as one team: where there are few tiles, and where the weights do
 * not fit into a cache, so that they are read once. Otherwise each thread has tiles of its own.
 */
export function winograd(args: WinogradArgs, thread: i32, threads: i32): void {
  const together = args.together != 0;
  const size = args.size, block = args.block, inStride = args.inStride, outStride = args.outStride;
  const places = pointsOf(size);
  const inPoint = <usize>args.inPoint, outPoint = <usize>args.outPoint;
  const inTile = tileBytes(size, inPoint), outTile = tileBytes(size, outPoint);
  const edge = args.workspace + <usize>(thread * args.threadBytes), tile = edge + (<usize>(places * inStride) << 2);
  const vectors = tile + (<usize>(size * size * outStride) << 2);
  const inputs =
    args.workspace +
    <usize>(threads * args.threadBytes) +
    (together ? 0 : <usize>(thread * block) * (inTile + outTile));
  const sums = inputs + <usize>block * inTile;
  const rows = args.scratch + <usize>(thread * SCRATCH);
  if (size == 4) constants4(vectors);
  else constants6(vectors);

  const from = together ? 0 : partition(args.tiles, 1, thread, threads);
  const to = together ? args.tiles : partition(args.tiles, 1, thread + 1, threads);
  const part = together ? thread : 0, parts = together ? threads : 1;
  for (let first = from; first < to; first += block) {
    const count = min(block, to - first);
    const firstTile = partition(count, 1, part, parts), lastTile = partition(count, 1, part + 1, parts);
    for (let t = firstTile; t < lastTile; t++) {
      select(args, first + t);
      inputTile(args, inputs + <usize>t * inTile, inPoint, edge, vectors);
    }
    if (together) barrier();
    products(args, first, count, part, parts, rows, inputs, sums);
    if (together) barrier();
    for (let t = firstTile; t < lastTile; t++) {
      select(args, first + t);
      outputTile(args, sums + <usize>t * outTile, outPoint, tile, vectors, rows);
    }
  }
}

/** The tile under work: its image, its first output, and how many rows and columns of outputs it makes. */
let image: i32 = 0;
let top: i32 = 0;
let left: i32 = 0;
let tileRows: i32 = 0;
let tileColumns: i32 = 0;

function select(args: WinogradArgs, index: i32): void {
  const size = args.size, across = tilesAlong(size, args.width), down = tilesAlong(size, args.height);
  image = index / across / down;
  top = ((index / across) % down) * size;
  left = (index % across) * size;
  tileRows = outputsOf(size, args.height - top);
  tileColumns = outputsOf(size, args.width - left);
}

/** Outputs along a side of a tile, of `rest` that are to be made from there on. */
// @ts-ignore: decorator
@inline
function outputsOf(size: i32, rest: i32): i32 {
  return rest > 2 ? size : 2;
}

/** Tiles before number `end` that are in the last row of their image. */
// @ts-ignore: decorator
@inline
function inLastRow(end: i32, across: i32, down: i32): i32 {
  return (end / (across * down)) * across + max(0, (end % (across * down)) - across * (down - 1));
}

/**
 * Part `part` of the products of a block. A place has those of all tiles but the short ones that do without it; the products
 * of all places in a row, panel by panel, are cut into even parts.
 */
function products(
  args: WinogradArgs, first: i32, count: i32, part: i32, parts: i32, rows: usize, inputs: usize, sums: usize,
): void {
  const size = args.size, side = size + 2, inStride = args.inStride, outStride = args.outStride;
  const inPoint = <usize>args.inPoint, outPoint = <usize>args.outPoint;
  const inTile = tileBytes(size, inPoint), outTile = tileBytes(size, outPoint);
  const panels = panelsOf(args.outChannels), weightPlace = <usize>(panels * NR * inStride) << 2;
  const across = tilesAlong(size, args.width), down = tilesAlong(size, args.height), end = first + count;
  const shortRow = outputsOf(size, args.height - (down - 1) * size) < size;
  const shortColumn = outputsOf(size, args.width - (across - 1) * size) < size;
  // How many of the block's tiles are short in each way.
  const low = shortRow ? inLastRow(end, across, down) - inLastRow(first, across, down) : 0;
  const narrow = shortColumn ? end / across - first / across : 0;
  const both = shortRow && shortColumn ? end / (across * down) - first / (across * down) : 0;
  const lacking = side - 4;
  const all = <i64>panels * (count * side * side - (low + narrow) * side * lacking + both * lacking * lacking);
  const from = <i32>((all * part) / parts), to = <i32>((all * (part + 1)) / parts);
  const shared = shortPlaces(size);
  setEpilogue(0, 0, false, outStride);
  let done = 0;
  for (let place = 0; place < side * side && done < to; place++) {
    // Places that only tiles of full height, or width, have.
    const tall = !((shared >> (place / side)) & 1), wide = !((shared >> (place % side)) & 1);
    const tiles = count - (tall ? low : 0) - (wide ? narrow : 0) + (tall && wide ? both : 0);
    if (tiles == 0) continue;
    const firstPanel = max(0, from - done + tiles - 1) / tiles, lastPanel = min(panels, (to - done + tiles - 1) / tiles);
    done += tiles * panels;
    if (firstPanel >= lastPanel) continue;
    let entry = rows, input = inputs + <usize>place * inPoint, sum = sums + <usize>place * outPoint;
    for (let t = first; t < end; t++) {
      const without =
        (tall && shortRow && (t / across) % down == down - 1) || (wide && shortColumn && t % across == across - 1);
      if (!without) {
        store<usize>(entry, input);
        store<usize>(entry, sum, 4);
        entry += ROW;
      }
      input += inTile;
      sum += outTile;
    }
    gemmBlock(rows, tiles, args.weights + <usize>place * weightPlace, firstPanel, lastPanel, 1, inStride, 0);
  }
}

/** The transform of a line: by Bᵀ or by Aᵀ. */
const INPUT: i32 = 0;
const OUTPUT: i32 = 1;

/** All lines of a tile. */
const ALL: i32 = -1;

/**
 * A transform of those lines of `count` that are in `which`, of four channels; in short lines it is that of F(2, 3). They
 * begin `next` bytes apart, and their values are `step` bytes apart; of the results the same is `outNext` and `outStep`.
 */
function lines(
  stage: i32, size: i32, short: bool, from: usize, next: usize, step: usize,
  out: usize, outNext: usize, outStep: usize, count: i32, which: i32, vectors: usize,
): void {
  for (let i = 0; i < count; i++) {
    if ((which >> i) & 1) {
      if (stage == INPUT) {
        if (size == 4) {
          if (short) shortInput4(from, step, out, outStep, vectors);
          else inputLine4(from, step, out, outStep, vectors);
        } else if (short) shortInput6(from, step, out, outStep, vectors);
        else inputLine6(from, step, out, outStep, vectors);
      } else if (size == 4) {
        if (short) shortOutput4(from, step, out, outStep, vectors);
        else outputLine4(from, step, out, outStep, vectors);
      } else if (short) shortOutput6(from, step, out, outStep);
      else outputLine6(from, step, out, outStep, vectors);
    }
    from += next;
    out += outNext;
  }
}

/** Bᵀ d B of the tile under work, for all channels: place p goes to `out + p · place`. */
function inputTile(args: WinogradArgs, out: usize, place: usize, edge: usize, vectors: usize): void {
  const size = args.size, side = <usize>size + 2, height = tileRows + 2, width = tileColumns + 2;
  const low = tileRows < size, narrow = tileColumns < size, short = shortPlaces(size);
  const pixel = <usize>args.inStride << 2;
  const paddedWidth = args.width + 2, paddedHeight = args.height + 2;
  let row = <usize>paddedWidth * pixel;
  let from = args.input + <usize>(image * paddedHeight + top) * row + <usize>left * pixel;
  if (top + height > paddedHeight || left + width > paddedWidth) {
    // What lies past the border's zeros is zero too.
    memory.fill(edge, 0, <usize>(height * width) * pixel);
    const columns = <usize>min(width, paddedWidth - left) * pixel;
    for (let i = 0; i < min(height, paddedHeight - top); i++) {
      memory.copy(edge + <usize>(i * width) * pixel, from + <usize>i * row, columns);
    }
    from = edge;
    row = <usize>width * pixel;
  }
  for (let c: usize = 0; c < pixel; c += V) {
    lines(INPUT, size, low, from + c, pixel, row, vectors, V, side * V, width, ALL, vectors);
    lines(INPUT, size, narrow, vectors, side * V, V, out + c, side * place, place, size + 2, low ? short : ALL, vectors);
  }
}

/** Aᵀ m A of the tile under work, the epilogue, and the way into the output. */
function outputTile(args: WinogradArgs, from: usize, place: usize, tile: usize, vectors: usize, rows: usize): void {
  const size = args.size, side = <usize>size + 2, pixel = <usize>args.outStride << 2;
  const low = tileRows < size, narrow = tileColumns < size, short = shortPlaces(size);
  let largest = i32x4.splat(0);
  locate(args);
  for (let c: usize = 0; c < pixel; c += V) {
    lines(OUTPUT, size, low, from + c, place, side * place, vectors, V, side * V, size + 2, narrow ? short : ALL, vectors);
    // A line is read before its results are written, and those lie at or before it.
    lines(OUTPUT, size, narrow, vectors, side * V, V, vectors, <usize>size * V, V, tileRows, ALL, vectors);
    largest = i32x4.max_u(largest, finishTile(args, vectors, c));
  }
  // Twice the bits of an infinity, whose sign falls off; those of a NaN are more.
  if (v128.any_true(i32x4.ge_u(largest, i32x4.splat(0xff000000)))) directTile(args, tile, rows);
}

/** Where the tile under work goes, in the output or its max-pool, and how many of its pixels are inside. */
let target: usize = 0;
let targetRow: usize = 0;
let targetRows: i32 = 0;
let targetColumns: i32 = 0;

function locate(args: WinogradArgs): void {
  const halves = args.pool ? 2 : 1;
  const width = args.width / halves, height = args.height / halves, y = top / halves, x = left / halves;
  const pixel = <usize>args.outStride << 2;
  targetRow = <usize>(width + 2) * pixel;
  target = args.output + <usize>(image * (height + 2) + y + 1) * targetRow + <usize>(x + 1) * pixel;
  targetRows = min(tileRows / halves, height - y);
  targetColumns = min(tileColumns / halves, width - x);
}

/**
 * The epilogue of four channels, from byte `c` of a pixel on, of the tile under work, and their way into the output. To
 * see whether all are finite costs least by the largest of their bits, doubled: these are the result.
 */
// @ts-ignore: decorator
@inline
function finishTile(args: WinogradArgs, from: usize, c: usize): v128 {
  const pixel = <usize>args.outStride << 2, line = <usize>args.size * V, pool = args.pool != 0;
  const row = targetRow, rows = targetRows, columns = targetColumns;
  const scale = v128.load(args.scale + c), shift = v128.load(args.shift + c);
  const least = f32x4.splat(args.relu ? 0 : -Infinity);
  let largest = i32x4.splat(0);
  let to = target + c;
  for (let i = 0; i < rows; i++) {
    let corner = from, pixelTo = to;
    for (let j = 0; j < columns; j++) {
      let value = madd(v128.load(corner), scale, shift);
      largest = i32x4.max_u(largest, i32x4.shl(value, 1));
      if (pool) {
        const right = madd(v128.load(corner, V), scale, shift);
        const below = madd(v128.load(corner + line), scale, shift);
        const last = madd(v128.load(corner + line, V), scale, shift);
        largest = i32x4.max_u(largest, i32x4.max_u(i32x4.shl(right, 1), i32x4.shl(below, 1)));
        largest = i32x4.max_u(largest, i32x4.shl(last, 1));
        // A NaN may get lost: the tile is computed once more.
        value = f32x4.pmax(f32x4.pmax(value, right), f32x4.pmax(below, last));
        corner += V;
      }
      v128.store(pixelTo, f32x4.pmax(value, least));
      corner += V;
      pixelTo += pixel;
    }
    from += pool ? 2 * line : line;
    to += row;
  }
  return largest;
}

/**
 * The tile once more, as conv2d does it. A NaN or an infinity goes into many places of its tile, and would come out
 * as NaN in outputs that it has no part in; PyTorch has it in those that it belongs to.
 */
function directTile(args: WinogradArgs, tile: usize, rows: usize): void {
  const size = args.size;
  const inPixel = <usize>args.inStride << 2, outPixel = <usize>args.outStride << 2;
  const row = <usize>(args.width + 2) * inPixel;
  const input = args.input + <usize>(image * (args.height + 2)) * row;
  for (let i = 0; i < size * size; i++) {
    const y = min(top + i / size, args.height - 1), x = min(left + (i % size), args.width - 1);
    const entry = rows + <usize>i * ROW;
    store<usize>(entry, input + <usize>y * row + <usize>x * inPixel);
    store<usize>(entry, tile + <usize>i * outPixel, 4);
  }
  setEpilogue(args.scale, args.shift, args.relu != 0, args.outChannels);
  gemmBlock(rows, size * size, args.direct, 0, panelsOf(args.outChannels), 3, 3 * args.inStride, row);
  for (let c: usize = 0; c < outPixel; c += V) storeTile(args, tile + c, c);
}

/** Four channels, from byte `c` of a pixel on, of a finished tile on their way into the output. */
function storeTile(args: WinogradArgs, from: usize, c: usize): void {
  const pixel = <usize>args.outStride << 2, line = <usize>args.size * pixel, pool = args.pool != 0;
  let to = target + c;
  for (let i = 0; i < targetRows; i++) {
    let corner = from, pixelTo = to;
    for (let j = 0; j < targetColumns; j++) {
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
    to += targetRow;
  }
}
