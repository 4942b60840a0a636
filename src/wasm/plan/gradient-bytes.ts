import { type Layer, parametersOf } from '../../program/layers.js';
import { numel } from '../../tensor.js';
import { align, BYTES, channelStride } from './layout.js';
import { convBytes } from './parameter-bytes.js';

/** The gradient of a parameter, laid out as the parameter is: a convolution's weights packed, vectors in whole tiles. */
export interface GradientPlace {
  readonly layer: Layer;
  /** The layer's index in the program. */
  readonly index: number;
  readonly shape: readonly number[];
  /** Bytes from the start of all gradients. */
  readonly offset: number;
  readonly bytes: number;
}

/** Where the gradients of the parameters lie, by name. */
export function gradientPlaces(layers: readonly Layer[], trained: ReadonlySet<string>): Map<string, GradientPlace> {
  const places = new Map<string, GradientPlace>();
  let offset = 0;
  for (const [index, layer] of layers.entries()) {
    for (const { name, shape } of parametersOf(layer)) {
      if (!trained.has(name)) continue;
      const packed = layer.op === 'conv2d' && shape.length > 1;
      const vector = shape.length === 1;
      const bytes = packed
        ? convBytes(layer, index, 'direct')
        : align((vector ? channelStride(numel(shape)) : numel(shape)) * BYTES);
      places.set(name, { layer, index, shape, offset, bytes });
      offset += bytes;
    }
  }
  return places;
}

/** The bytes of all gradients. */
export function gradientBytes(layers: readonly Layer[], trained: ReadonlySet<string>): number {
  return [...gradientPlaces(layers, trained).values()].reduce((sum, { bytes }) => sum + bytes, 0);
}
