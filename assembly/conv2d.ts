/*
 * conv2d: 3×3, stride 1, padding 1, as an implicit GEMM (Dukhan, "The Indirect Convolution Algorithm", 2019).
 *
 *   out[n, y, x, oc] = epilogue(Σ kh, kw, ic  in[n, y + kh − 1, x + kw − 1, ic] · weight[oc, ic, kh, kw])
 *
 * Activations are padded NHWC: (N, H + 2, W + 2, CS) with a border of zeros one pixel wide and CS ≥ C channels, zeros past
 * C. A row of the GEMM is a pixel: three runs (kh) of 3 · CS consecutive values. Weights are packed as B:
 * (⌈OC/8⌉, 3, 3, CS, 8).
 */
import { MC, gemmBlock, SCRATCH, panelsOf, rowEntry, setProduct, setRow } from './gemm';
import { floatBytes } from './simd';
import { MIN_PIXELS, partition } from './threads';
import { Epilogue, MR, NR, ROW_ENTRY } from './tile';

/** The arguments that all convolutions have; `scale` and `shift` have the output's CS values each. */
@unmanaged
export class ConvolutionArgs extends Epilogue {
  input: usize;
  output: usize;
  weights: usize;
  /** The output is the 2×2 max-pool of the convolution's. */
  pool: i32;
  images: i32;
  height: i32;
  width: i32;
  /** Channels of a pixel, CS, of the input and of the output. */
  inStride: i32;
  outStride: i32;
  /** SCRATCH bytes for each thread. */
  scratch: usize;
}

/** Direct convolution; only conv2d-rgb.ts takes `pool`. */
export function conv2d(args: ConvolutionArgs, thread: i32, threads: i32): void {
  const height = args.height;
  const width = args.width;
  const pixels = args.images * height * width;
  const parts = min(threads, (pixels + MIN_PIXELS - 1) / MIN_PIXELS);
  const groups = threads / parts;
  if (thread >= parts * groups) return;
  const group = thread / parts;
  const panels = panelsOf(args.outChannels);
  const firstPanel = partition(panels, 1, group, groups);
  const lastPanel = partition(panels, 1, group + 1, groups);
  const first = partition(pixels, MR, thread % parts, parts);
  const last = partition(pixels, MR, (thread % parts) + 1, parts);

  const inPixel = floatBytes(args.inStride);
  const outPixel = floatBytes(args.outStride);
  const rowPixels = <usize>(width + 2);
  const imagePixels = <usize>(height + 2) * rowPixels;
  const scratch = args.scratch + <usize>(thread * SCRATCH);
  setProduct(scratch, args.weights, 3, 3 * args.inStride, rowPixels * inPixel, changetype<usize>(args));

  let x = first % width;
  let y = (first / width) % height;
  let n = first / width / height;
  for (let pixel = first; pixel < last; pixel += MC) {
    const count = min(MC, last - pixel);
    for (let i = 0, entry = rowEntry(scratch, 0); i < count; i++, entry += ROW_ENTRY) {
      // The top left corner of the 3×3 window, which is also the output pixel less (1, 1).
      const corner = <usize>n * imagePixels + <usize>y * rowPixels + <usize>x;
      setRow(entry, args.input + corner * inPixel, args.output + (corner + rowPixels + 1) * outPixel);
      if (++x == width) {
        x = 0;
        if (++y == height) {
          y = 0;
          n++;
        }
      }
    }
    gemmBlock(scratch, count, firstPanel, lastPanel);
  }
}

/**
 * Packs `count` values of weight[OC, IC, 3, 3], the first of which has index `offset`, into (⌈OC/8⌉, 3, 3, CS, 8), which
 * starts as zeros; with `unpack` reads them back.
 */
export function packConv2d(
  values: usize,
  offset: i32,
  count: i32,
  packed: usize,
  inChannels: i32,
  inStride: i32,
  unpack: bool,
): void {
  const tap = floatBytes(inStride * NR);
  let at: usize = 0;
  for (let i = 0; i < count; i++) {
    at = i == 0 || (offset + i) % 9 == 0 ? packed + packedAddress(offset + i, inChannels, inStride) : at + tap;
    if (unpack) store<f32>(values, load<f32>(at));
    else store<f32>(at, load<f32>(values));
    values += 4;
  }
}

/** The offset of weight number `index` of (OC, IC, 3, 3) in the packed panels, in bytes. */
// @ts-ignore: decorator
@inline
function packedAddress(index: i32, inChannels: i32, inStride: i32): usize {
  const tap = index % 9;
  const ic = (index / 9) % inChannels;
  const oc = index / 9 / inChannels;
  return floatBytes((((oc / NR) * 9 + tap) * inStride + ic) * NR + (oc % NR));
}
