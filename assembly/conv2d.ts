/*
 * conv2d: 3×3, stride 1, padding 1, as an implicit GEMM.
 *
 *   out[n, y, x, oc] = epilogue(Σ kh, kw, ic  in[n, y + kh − 1, x + kw − 1, ic] · weight[oc, ic, kh, kw])
 *
 * Activations are padded NHWC: (N, H + 2, W + 2, CS) with a border of zeros one pixel wide and CS ≥ C
 * channels, zeros past C. A row of the GEMM is a pixel: three runs (kh) of 3 · CS consecutive values.
 * Weights are packed as B: (⌈OC/8⌉, 3, 3, CS, 8).
 */
import { MC, SCRATCH, gemmBlock, panelsOf } from './gemm';
import { partition } from './threads';
import { MR, NR, ROW, setEpilogue } from './tile';

@unmanaged
export class Conv2dArgs {
  input: usize;
  output: usize;
  weights: usize;
  /** Per output channel, as many as the output's CS. */
  scale: usize;
  shift: usize;
  relu: i32;
  height: i32;
  width: i32;
  inStride: i32;
  outChannels: i32;
  outStride: i32;
  /** SCRATCH bytes for each thread. */
  scratch: usize;
  /** N · H · W */
  pixels: i32;
  /** The output is the 2×2 max-pool of the convolution's: only in `conv2dRgb`. */
  pool: i32;
}

/** Fewest pixels that are worth a thread: threads beyond that share the output channels. */
const SHARE: i32 = 24;

export function conv2d(args: Conv2dArgs, thread: i32, threads: i32): void {
  const parts = min(threads, (args.pixels + SHARE - 1) / SHARE), groups = threads / parts;
  if (thread >= parts * groups) return;
  const group = thread / parts;
  const panels = panelsOf(args.outChannels);
  const firstPanel = partition(panels, 1, group, groups), lastPanel = partition(panels, 1, group + 1, groups);
  const first = partition(args.pixels, MR, thread % parts, parts), last = partition(args.pixels, MR, (thread % parts) + 1, parts);

  const height = args.height, width = args.width;
  const inPixel = <usize>args.inStride << 2, outPixel = <usize>args.outStride << 2;
  const rowPixels = <usize>(width + 2);
  const imagePixels = <usize>(height + 2) * rowPixels;
  const rows = args.scratch + <usize>(thread * SCRATCH);
  setEpilogue(args.scale, args.shift, args.relu != 0, args.outChannels);

  let x = first % width;
  let y = (first / width) % height;
  let n = first / width / height;
  for (let pixel = first; pixel < last; pixel += MC) {
    const count = min(MC, last - pixel);
    for (let i = 0; i < count; i++) {
      // The top left corner of the 3×3 window, which is also the output pixel less (1, 1).
      const corner = <usize>n * imagePixels + <usize>y * rowPixels + <usize>x;
      const entry = rows + <usize>i * ROW;
      store<usize>(entry, args.input + corner * inPixel);
      store<usize>(entry, args.output + (corner + rowPixels + 1) * outPixel, 4);
      if (++x == width) {
        x = 0;
        if (++y == height) {
          y = 0;
          n++;
        }
      }
    }
    gemmBlock(rows, count, args.weights, firstPanel, lastPanel, 3, 3 * args.inStride, rowPixels * inPixel);
  }
}

/**
 * Packs `count` values of weight[OC, IC, 3, 3], of which the first has index `offset`, into
 * (⌈OC/8⌉, 3, 3, CS, 8), which starts as zeros; or the way `back`.
 */
export function packConv2d(
  values: usize, offset: i32, count: i32, packed: usize, inChannels: i32, inStride: i32, back: bool,
): void {
  const tap = <usize>(inStride * NR) << 2;
  let at: usize = 0;
  for (let i = 0; i < count; i++) {
    at = i == 0 || (offset + i) % 9 == 0 ? packed + packedAddress(offset + i, inChannels, inStride) : at + tap;
    if (back) store<f32>(values, load<f32>(at));
    else store<f32>(at, load<f32>(values));
    values += 4;
  }
}

/** Where weight number `index` of (OC, IC, 3, 3) lies in the packed panels, in bytes. */
// @ts-ignore: decorator
@inline
function packedAddress(index: i32, inChannels: i32, inStride: i32): usize {
  const tap = index % 9;
  const ic = (index / 9) % inChannels;
  const oc = index / 9 / inChannels;
  return <usize>((((oc / NR) * 9 + tap) * inStride + ic) * NR + (oc % NR)) << 2;
}
