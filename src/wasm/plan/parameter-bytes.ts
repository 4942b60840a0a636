import type { Conv2d, Layer, Linear } from '../../program/layers.js';
import { type Algorithm, isTransformed, transformedBytes } from './algorithm.js';
import { align, BYTES, channelStride } from './layout.js';

/* How many bytes parameters take in the engine's memory. */

/** Most values that pass through the staging buffer at once: 1 MiB. */
export const STAGE = 262_144;

/** The size of the staging buffer in values: at least a whole row of weights, for those that are packed by rows. */
export function stageValues(layers: readonly Layer[]): number {
  const rows = layers.map((layer) =>
    layer.op === 'linear' ? layer.inFeatures : layer.op === 'conv2d' ? 9 * layer.inChannels : 0,
  );
  return Math.max(STAGE, ...rows);
}

/** The bytes of a convolution's weights as the direct or the integer kernel reads them. */
export function convBytes(layer: Conv2d, index: number, algorithm: Algorithm): number {
  const values = 9 * channelStride(layer.outChannels) * inputStride(layer, index);
  return align(values * (algorithm === 'int8' ? 1 : BYTES));
}

/** FP16, INT8 and INT4 of assembly/expand.ts; 0 for float32. */
export type RowKind = 0 | 1 | 2 | 3;
const ROW_KINDS = { fp32: 0, fp16: 1, int8: 2, int4: 3 } as const;

export function rowKind({ precision = 'fp32' }: Linear): RowKind {
  return ROW_KINDS[precision];
}

/** The bytes of a row of each kind and of its scales: `rowBytes` and `scaleBytes` of assembly/expand.ts. */
export function rowBytes(kind: RowKind, columns: number): { row: number; scales: number } {
  const up = (step: number): number => Math.ceil(columns / step) * step;
  if (kind === 0) return { row: columns * BYTES, scales: 0 };
  if (kind === 1) return { row: up(8) * 2, scales: BYTES };
  return kind === 2 ? { row: up(16), scales: BYTES } : { row: up(32) / 2, scales: up(32) / 16 };
}

export function linearBytes(layer: Linear): { weight: number; scales: number } {
  const { row, scales } = rowBytes(rowKind(layer), layer.inFeatures);
  return { weight: align(layer.outFeatures * row), scales: align(layer.outFeatures * scales) };
}

/** The bytes of all parameters and of the staging buffer. */
export function parameterBytes(layers: readonly Layer[], algorithms: readonly Algorithm[]): number {
  let bytes = align(stageValues(layers) * BYTES);
  for (const [index, layer] of layers.entries()) {
    const algorithm = algorithms[index] as Algorithm;
    if (layer.op === 'conv2d') {
      const out = channelStride(layer.outChannels);
      bytes += convBytes(layer, index, algorithm) + 2 * align(out * BYTES);
      if (isTransformed(algorithm)) bytes += transformedBytes(layer, algorithm);
      if (algorithm === 'int8') bytes += align(out * BYTES);
    } else if (layer.op === 'batchNorm2d') {
      bytes += 6 * align(channelStride(layer.channels) * BYTES);
    } else if (layer.op === 'linear') {
      const { weight, scales } = linearBytes(layer);
      bytes += weight + scales + align(layer.outFeatures * BYTES);
    }
  }
  return bytes;
}

/** Channels of an input pixel. A first convolution's input is not padded to eight channels: its kernel reads them one by one. */
export function inputStride(layer: Conv2d, index: number): number {
  return index === 0 ? layer.inChannels : channelStride(layer.inChannels);
}
