import type { Conv2d, Layer } from '../layers.js';
import { type Form, transformedBytes } from './convolution.js';
import { align, BYTES, channelStride } from './layout.js';

/* How much memory parameters take: what the caller's side needs to know of them. */

/** Most values that pass through the staging buffer at once: 1 MiB. */
export const STAGE = 262_144;

/** The bytes that all parameters take, with what they need to pass through. */
export function parameterBytes(layers: readonly Layer[], forms: readonly Form[]): number {
  let bytes = align(STAGE * BYTES);
  for (const [index, layer] of layers.entries()) {
    const form = forms[index] as Form;
    if (layer.op === 'conv2d') {
      const out = channelStride(layer.outChannels);
      bytes += align(9 * out * inputStride(layer, index) * BYTES) + 2 * align(out * BYTES);
      if (form !== 'direct') bytes += transformedBytes(layer, form);
    } else if (layer.op === 'batchNorm2d') {
      bytes += 6 * align(channelStride(layer.channels) * BYTES);
    } else if (layer.op === 'linear') {
      bytes += align(layer.outFeatures * layer.inFeatures * BYTES) + align(layer.outFeatures * BYTES);
    }
  }
  return bytes;
}

/** An image's three channels are not padded to eight where a convolution comes first: it reads them one by one. */
export function inputStride(layer: Conv2d, index: number): number {
  return index === 0 ? layer.inChannels : channelStride(layer.inChannels);
}
