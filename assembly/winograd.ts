/*
 * conv2d by Winograd's minimal filtering F(4×4, 3×3): a tile of 4×4 outputs takes 36 multiplications for each pair of
 * channels instead of 144 (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2015).
 *
 *   Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A      d: 6×6 inputs, g: 3×3 weights, Y: 4×4 outputs
 *
 * The products are 36 matrix products, one for each of the 6×6 places: (tiles, IC) · (IC, OC). Blocks of tiles go
 * through all three stages while they are in a cache.
 *
 * The interpolation points are 0, ±3/4, ±3/2, ∞ and not the usual 0, ±1, ±2, ∞: in float32 that leaves half of the
 * error (after Barabasz, Anderson, Soodhalter and Gregg, "Error Analysis and Improving the Accuracy of Winograd
 * Convolution for Deep Neural Networks", 2018). All constants of Aᵀ and Bᵀ are exact in float32: the slightly better
 * 5/8 and 8/5 are not, and shift the mean of a layer's output.
 *
 * Activations are padded NHWC, as in conv2d.ts.
 */
import { SCRATCH, gemmBlock, panelsOf } from './gemm';
import { V, madd, relu4 } from './simd';
import { barrier, cut } from './team';
import { NR, ROW, setEpilogue } from './tile';

/** The points ±A and ±B. */
const A: f32 = 0.75;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;
/** Π (x − p) = x⁵ − S x³ + P x */
const S: f32 = A2 + B2;
const P: f32 = A2 * B2;

/** Outputs of a tile's side, and inputs. */
const OUT: i32 = 4;
const IN: i32 = 6;
/** Products of a tile. */
const PLACES: i32 = IN * IN;

@unmanaged
export class WinogradArgs {
  input: usize;
  output: usize;
  /** As `packWinograd` makes them. */
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
  /** `winogradWorkspace` bytes. */
  workspace: usize;
  /** Tiles of a block, at most MC. */
  block: i32;
  /** N · ⌈H/4⌉ · ⌈W/4⌉ */
  tiles: i32;
  /** The threads share each block. */
  together: i32;
}

/** Bytes from one place to the next of a block of values with `stride` channels. */
// @ts-ignore: decorator
@inline
function placeBytes(block: i32, stride: i32): usize {
  // A line more than whole pages: the 36 places of one tile must not fall into one set of the L1 cache.
  return ((<usize>(block * stride) * 4 + 4095) & ~4095) + 64;
}

/** Bytes that a thread needs for itself: one 6×6 tile, one 4×4 tile, vectors. */
// @ts-ignore: decorator
@inline
function ownBytes(inStride: i32, outStride: i32): usize {
  return (<usize>(PLACES * inStride + OUT * OUT * outStride) << 2) + <usize>PLACES * V;
}

/** Bytes of `inputs` and `sums` of one block. */
// @ts-ignore: decorator
@inline
function blockBytes(block: i32, inStride: i32, outStride: i32): usize {
  return <usize>PLACES * (placeBytes(block, inStride) + placeBytes(block, outStride));
}

/** Bytes of workspace; `blocks` is the number of threads if each has blocks of its own, and 1 otherwise. */
export function winogradWorkspace(block: i32, inStride: i32, outStride: i32, blocks: i32, threads: i32): usize {
  return <usize>blocks * blockBytes(block, inStride, outStride) + <usize>threads * ownBytes(inStride, outStride);
}

/**
 * With `together` the threads go through each block as one team: where there are few tiles, and where the weights do
 * not fit into a cache, so that they are read once. Otherwise each thread has tiles of its own.
 */
export function winograd(args: WinogradArgs, thread: i32, threads: i32): void {
  const together = args.together != 0;
  const block = args.block, inStride = args.inStride, outStride = args.outStride;
  const own = args.workspace + <usize>thread * ownBytes(inStride, outStride);
  const edge = own, tile = edge + (<usize>(PLACES * inStride) << 2);
  const vectors = tile + (<usize>(OUT * OUT * outStride) << 2);
  const inputs =
    args.workspace +
    <usize>threads * ownBytes(inStride, outStride) +
    (together ? 0 : <usize>thread * blockBytes(block, inStride, outStride));
  const inPlace = placeBytes(block, inStride), outPlace = placeBytes(block, outStride);
  const sums = inputs + <usize>PLACES * inPlace;
  const rows = args.scratch + <usize>(thread * SCRATCH);

  const from = together ? 0 : cut(args.tiles, 1, thread, threads);
  const to = together ? args.tiles : cut(args.tiles, 1, thread + 1, threads);
  const part = together ? thread : 0, parts = together ? threads : 1;
  for (let first = from; first < to; first += block) {
    const count = min(block, to - first);
    const firstTile = cut(count, 1, part, parts), lastTile = cut(count, 1, part + 1, parts);
    for (let t = firstTile; t < lastTile; t++) {
      inputTile(args, first + t, inputs + (<usize>(t * inStride) << 2), inPlace, edge, vectors);
    }
    if (together) barrier();
    products(args, count, part, parts, rows, inputs, sums);
    if (together) barrier();
    for (let t = firstTile; t < lastTile; t++) {
      outputTile(args, first + t, sums + (<usize>(t * outStride) << 2), outPlace, tile, vectors, rows);
    }
  }
}

/** Part `part` of the 36 products of a block: the panels of all places in a row are cut into even parts. */
function products(args: WinogradArgs, count: i32, part: i32, parts: i32, rows: usize, inputs: usize, sums: usize): void {
  const inStride = args.inStride, outStride = args.outStride;
  const inPlace = placeBytes(args.block, inStride), outPlace = placeBytes(args.block, outStride);
  const panels = panelsOf(args.outChannels);
  const weightPlace = <usize>(panels * NR * inStride) << 2;
  const end = cut(PLACES * panels, 1, part + 1, parts);
  setEpilogue(0, 0, false, outStride);
  for (let at = cut(PLACES * panels, 1, part, parts); at < end; ) {
    const place = at / panels, firstPanel = at % panels;
    const lastPanel = min(panels, firstPanel + end - at);
    for (let t = 0; t < count; t++) {
      const entry = rows + <usize>t * ROW;
      store<usize>(entry, inputs + <usize>place * inPlace + (<usize>(t * inStride) << 2));
      store<usize>(entry, sums + <usize>place * outPlace + (<usize>(t * outStride) << 2), 4);
    }
    gemmBlock(rows, count, args.weights + <usize>place * weightPlace, firstPanel, lastPanel, 1, inStride, 0);
    at += lastPanel - firstPanel;
  }
}

/** Bᵀ d B of one tile, for all channels: place (i, j) goes to `out + (6 i + j) · place`. */
function inputTile(args: WinogradArgs, index: i32, out: usize, place: usize, edge: usize, vectors: usize): void {
  const across = (args.width + OUT - 1) / OUT, down = (args.height + OUT - 1) / OUT;
  const y = ((index / across) % down) * OUT, x = (index % across) * OUT, n = index / across / down;
  const bytes = <usize>args.inStride << 2;
  const paddedWidth = args.width + 2, paddedHeight = args.height + 2;
  let row = <usize>paddedWidth * bytes;
  let from = args.input + <usize>(n * paddedHeight + y) * row + <usize>x * bytes;
  if (y + IN > paddedHeight || x + IN > paddedWidth) {
    // What lies past the border's zeros is zero too.
    memory.fill(edge, 0, <usize>PLACES * bytes);
    const columns = <usize>min(IN, paddedWidth - x) * bytes;
    for (let i = 0; i < min(IN, paddedHeight - y); i++) {
      memory.copy(edge + <usize>(i * IN) * bytes, from + <usize>i * row, columns);
    }
    from = edge;
    row = <usize>IN * bytes;
  }
  for (let c: usize = 0; c < bytes; c += V) {
    let p = from + c, v = vectors;
    for (let j = 0; j < IN; j++) {
      inputLine(
        v128.load(p), v128.load(p + row), v128.load(p + 2 * row),
        v128.load(p + 3 * row), v128.load(p + 4 * row), v128.load(p + 5 * row),
        v, <usize>IN * V,
      );
      p += bytes;
      v += V;
    }
    v = vectors;
    let o = out + c;
    for (let i = 0; i < IN; i++) {
      inputLine(
        v128.load(v), v128.load(v, V), v128.load(v, 2 * V), v128.load(v, 3 * V), v128.load(v, 4 * V), v128.load(v, 5 * V),
        o, place,
      );
      v += <usize>IN * V;
      o += <usize>IN * place;
    }
  }
}

/** Bᵀ times a line of six. */
// @ts-ignore: decorator
@inline
function inputLine(d0: v128, d1: v128, d2: v128, d3: v128, d4: v128, d5: v128, out: usize, step: usize): void {
  const minusS = f32x4.splat(-S), p = f32x4.splat(P);
  v128.store(out, madd(d0, p, madd(d2, minusS, d4)));
  const evenA = madd(d2, f32x4.splat(-B2), d4), oddA = madd(d1, f32x4.splat(-A * B2), f32x4.mul(d3, f32x4.splat(A)));
  v128.store(out + step, f32x4.add(evenA, oddA));
  v128.store(out + 2 * step, f32x4.sub(evenA, oddA));
  const evenB = madd(d2, f32x4.splat(-A2), d4), oddB = madd(d1, f32x4.splat(-A2 * B), f32x4.mul(d3, f32x4.splat(B)));
  v128.store(out + 3 * step, f32x4.add(evenB, oddB));
  v128.store(out + 4 * step, f32x4.sub(evenB, oddB));
  v128.store(out + 5 * step, madd(d1, p, madd(d3, minusS, d5)));
}

/** Aᵀ m A of one tile, the epilogue, and the way into the output. */
function outputTile(
  args: WinogradArgs, index: i32, from: usize, place: usize, tile: usize, vectors: usize, rows: usize,
): void {
  const bytes = <usize>args.outStride << 2;
  const results = vectors;
  let finite = f32x4.splat(0);
  for (let c: usize = 0; c < bytes; c += V) {
    let p = from + c, v = vectors;
    for (let j = 0; j < IN; j++) {
      outputLine(
        v128.load(p), v128.load(p + 6 * place), v128.load(p + 12 * place),
        v128.load(p + 18 * place), v128.load(p + 24 * place), v128.load(p + 30 * place),
        v, <usize>IN * V,
      );
      p += place;
      v += V;
    }
    const scale = v128.load(args.scale + c), shift = v128.load(args.shift + c);
    v = vectors;
    let r = results;
    for (let i = 0; i < OUT; i++) {
      // Line i is read before its results are written, and those lie at or before it.
      outputLine(
        v128.load(v), v128.load(v, V), v128.load(v, 2 * V), v128.load(v, 3 * V), v128.load(v, 4 * V), v128.load(v, 5 * V),
        r, V,
      );
      for (let j = 0; j < OUT; j++) {
        let value = madd(v128.load(r), scale, shift);
        // x · 0 is 0 for a number, and NaN for NaN and the infinities.
        finite = madd(value, f32x4.splat(0), finite);
        if (args.relu) value = relu4(value);
        v128.store(r, value);
        r += V;
      }
      v += <usize>IN * V;
    }
    storeTile(args, index, results, V, c);
  }
  if (v128.any_true(f32x4.ne(finite, finite))) directTile(args, index, tile, rows);
}

/** Aᵀ times a line of six. */
// @ts-ignore: decorator
@inline
function outputLine(m0: v128, m1: v128, m2: v128, m3: v128, m4: v128, m5: v128, out: usize, step: usize): void {
  const sumA = f32x4.add(m1, m2), sumB = f32x4.add(m3, m4);
  const difA = f32x4.sub(m1, m2), difB = f32x4.sub(m3, m4);
  v128.store(out, f32x4.add(f32x4.add(m0, sumA), sumB));
  v128.store(out + step, madd(difA, f32x4.splat(A), f32x4.mul(difB, f32x4.splat(B))));
  v128.store(out + 2 * step, madd(sumA, f32x4.splat(A2), f32x4.mul(sumB, f32x4.splat(B2))));
  v128.store(out + 3 * step, madd(difA, f32x4.splat(A * A2), madd(difB, f32x4.splat(B * B2), m5)));
}

/** Four channels of a finished tile, whose pixels lie `step` bytes apart, into the output or its max-pool. */
// @ts-ignore: decorator
@inline
function storeTile(args: WinogradArgs, index: i32, from: usize, step: usize, c: usize): void {
  const across = (args.width + OUT - 1) / OUT, down = (args.height + OUT - 1) / OUT;
  const pooled = args.pool != 0;
  const size = pooled ? OUT / 2 : OUT;
  const width = pooled ? args.width / 2 : args.width, height = pooled ? args.height / 2 : args.height;
  const y = ((index / across) % down) * size, x = (index % across) * size, n = index / across / down;
  const pixel = <usize>args.outStride << 2;
  const row = <usize>(width + 2) * pixel;
  const to = args.output + <usize>(n * (height + 2) + y + 1) * row + <usize>(x + 1) * pixel + c;
  const rows = min(size, height - y), columns = min(size, width - x);
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      let value: v128;
      if (pooled) {
        const corner = from + <usize>(2 * i * OUT + 2 * j) * step;
        const top = f32x4.max(v128.load(corner), v128.load(corner + step));
        const bottom = f32x4.max(v128.load(corner + <usize>OUT * step), v128.load(corner + <usize>(OUT + 1) * step));
        value = f32x4.max(top, bottom);
      } else {
        value = v128.load(from + <usize>(i * OUT + j) * step);
      }
      v128.store(to + <usize>i * row + <usize>j * pixel, value);
    }
  }
}

/**
 * The tile once more, as conv2d does it. A NaN or an infinity goes into all 36 places of its tile, and would come out
 * as NaN in all of the tile's outputs; PyTorch has it in those that it belongs to.
 */
function directTile(args: WinogradArgs, index: i32, tile: usize, rows: usize): void {
  const across = (args.width + OUT - 1) / OUT, down = (args.height + OUT - 1) / OUT;
  const y = ((index / across) % down) * OUT, x = (index % across) * OUT, n = index / across / down;
  const inPixel = <usize>args.inStride << 2, outPixel = <usize>args.outStride << 2;
  const row = <usize>(args.width + 2) * inPixel;
  const image = args.input + <usize>(n * (args.height + 2)) * row;
  for (let i = 0; i < OUT * OUT; i++) {
    const top = min(y + i / OUT, args.height - 1), left = min(x + i % OUT, args.width - 1);
    const entry = rows + <usize>i * ROW;
    store<usize>(entry, image + <usize>top * row + <usize>left * inPixel);
    store<usize>(entry, tile + <usize>i * outPixel, 4);
  }
  setEpilogue(args.scale, args.shift, args.relu != 0, args.outChannels);
  gemmBlock(rows, OUT * OUT, args.direct, 0, panelsOf(args.outChannels), 3, 3 * args.inStride, row);
  for (let c: usize = 0; c < outPixel; c += V) storeTile(args, index, tile + c, outPixel, c);
}

/**
 * G g Gᵀ of all weights: from conv2d's panels (⌈OC/8⌉, 3, 3, CS, 8) to the panels of 36 products (36, ⌈OC/8⌉, CS, 8).
 * In float64, rounded once. `scratch` has PLACES vectors.
 */
export function packWinograd(direct: usize, packed: usize, outChannels: i32, inStride: i32, scratch: usize): void {
  const panels = (outChannels + NR - 1) / NR;
  const tap = <usize>(inStride * NR) << 2;
  const place = <usize>panels * tap;
  for (let panel = 0; panel < panels; panel++) {
    for (let at: usize = 0; at < tap; at += 8) {
      let p = direct + <usize>(panel * 9) * tap + at, v = scratch;
      for (let j = 0; j < 3; j++) {
        weightLine(load2(p), load2(p + 3 * tap), load2(p + 6 * tap), v, 3 * V);
        p += tap;
        v += V;
      }
      v = scratch;
      let o = packed + <usize>panel * tap + at;
      for (let i = 0; i < IN; i++) {
        const line = scratch + 18 * V;
        weightLine(v128.load(v), v128.load(v, V), v128.load(v, 2 * V), line, V);
        for (let j: usize = 0; j < <usize>IN; j++) {
          v128.store64_lane(o, f32x4.demote_f64x2_zero(v128.load(line + j * V)), 0);
          o += place;
        }
        v += 3 * V;
      }
    }
  }
}

/** Two float32 as float64. */
// @ts-ignore: decorator
@inline
function load2(p: usize): v128 {
  return f64x2.promote_low_f32x4(v128.load64_zero(p));
}

/** G times a line of three: row of point p is (1, p, p²) / Π (p − other points); the last, of ∞, is (0, 0, 1). */
// @ts-ignore: decorator
@inline
function weightLine(g0: v128, g1: v128, g2: v128, out: usize, step: usize): void {
  const a: f64 = A, b: f64 = B, a2: f64 = a * a, b2: f64 = b * b;
  const overA = f64x2.splat(1 / (2 * a2 * (a2 - b2))), overB = f64x2.splat(1 / (2 * b2 * (b2 - a2)));
  v128.store(out, f64x2.mul(g0, f64x2.splat(1 / (a2 * b2))));
  const evenA = f64x2.add(g0, f64x2.mul(g2, f64x2.splat(a2))), oddA = f64x2.mul(g1, f64x2.splat(a));
  v128.store(out + step, f64x2.mul(f64x2.add(evenA, oddA), overA));
  v128.store(out + 2 * step, f64x2.mul(f64x2.sub(evenA, oddA), overA));
  const evenB = f64x2.add(g0, f64x2.mul(g2, f64x2.splat(b2))), oddB = f64x2.mul(g1, f64x2.splat(b));
  v128.store(out + 3 * step, f64x2.mul(f64x2.add(evenB, oddB), overB));
  v128.store(out + 4 * step, f64x2.mul(f64x2.sub(evenB, oddB), overB));
  v128.store(out + 5 * step, g2);
}
