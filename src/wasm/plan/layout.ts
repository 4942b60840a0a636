import { numel } from '../../tensor.js';

/*
 * The layouts of values in the engine's memory. 'nchw' is PyTorch's order, dense, of any rank. 'nhwc' is what convolutions
 * work on: (N, H + 2, W + 2, stride), with a border of zeros and zeros past channel C.
 */
export type Layout = 'nchw' | 'nhwc';

export const BYTES = 4;
/** Addresses are multiples of a cache line. */
export const ALIGN = 64;

export function align(bytes: number): number {
  return Math.ceil(bytes / ALIGN) * ALIGN;
}

/** Channels of a pixel in 'nhwc': a multiple of the eight columns of the micro-kernel. */
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
