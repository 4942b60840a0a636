import { numel } from '../tensor.js';

/*
 * How values lie in the engine's memory: 'nchw' is PyTorch's order, dense, of any rank. 'nhwc' is what the
 * convolutions work on: (N, H + 2, W + 2, stride) with a border of zeros and zeros past C.
 */
export type Layout = 'nchw' | 'nhwc';

export const BYTES = 4;
/** Addresses are multiples of a cache line. */
export const ALIGN = 64;

export function align(bytes: number): number {
  return Math.ceil(bytes / ALIGN) * ALIGN;
}

/** Channels of a pixel in 'nhwc': whole tiles of the micro-kernel. */
export function channelStride(channels: number): number {
  return Math.ceil(channels / 8) * 8;
}

export interface Value {
  readonly layout: Layout;
  readonly shape: readonly number[];
  /** Channels of a pixel in 'nhwc'. */
  readonly stride: number;
}

export function valueBytes({ layout, shape, stride }: Value): number {
  if (layout === 'nchw') return align(numel(shape) * BYTES);
  const [n = 0, , h = 0, w = 0] = shape;
  return align(n * (h + 2) * (w + 2) * stride * BYTES);
}

/** Copies a value out of `memory` into (N, C, H, W) order. */
export function readValue(memory: Float32Array, address: number, value: Value, out: Float32Array): void {
  const base = address / BYTES;
  if (value.layout === 'nchw') {
    out.set(memory.subarray(base, base + out.length));
    return;
  }
  const [n = 0, c = 0, h = 0, w = 0] = value.shape;
  const { stride } = value;
  let at = 0;
  for (let image = 0; image < n; image++) {
    for (let channel = 0; channel < c; channel++) {
      for (let y = 0; y < h; y++) {
        let from = base + ((image * (h + 2) + y + 1) * (w + 2) + 1) * stride + channel;
        for (let x = 0; x < w; x++) {
          out[at++] = memory[from] as number;
          from += stride;
        }
      }
    }
  }
}
