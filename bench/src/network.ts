import { resolveConfig } from '../../src/model/config.js';
import { type Layer, parametersOf } from '../../src/program/layers.js';
import { inferShapes } from '../../src/program/shape.js';
import { numel } from '../../src/tensor.js';
import { createLayers, type ModelName, type ModelOptions } from '../../src/vgg.js';

/**
 * What quick runs measure: VGG16 with 256 features in its classifier, as loading half a gigabyte in each of two dozen
 * processes takes longer than all their samples.
 */
export const QUICK_NETWORK = 'vgg16-h256';

/** A network of the suite as the library makes it: `vgg16`, or `vgg16-h256` with so many hidden features. */
export function networkOf(model: string): { readonly name: ModelName; readonly options: ModelOptions } {
  const [name, hiddenFeatures] = model.split('-h');
  return { name: name as ModelName, options: hiddenFeatures ? { hiddenFeatures: Number(hiddenFeatures) } : {} };
}

/** A layer with what it costs for one input. */
export interface LayerCost {
  readonly layer: Layer;
  readonly inShape: readonly number[];
  readonly outShape: readonly number[];
  /** Multiply-accumulates of the direct method. */
  readonly macs: number;
  /** Weights, input and output, each once, in float32. */
  readonly bytes: number;
}

/** The layers up to the logits, of an input (batch, 3, size, size). */
export function layerCosts(model: string, batch: number, size: number): LayerCost[] {
  const all = networkLayers(model);
  const shapes = inferShapes(all, [batch, 3, size, size]);
  return all.map((layer, i) => {
    const inShape = i === 0 ? [batch, 3, size, size] : (shapes[i - 1] as number[]);
    const outShape = shapes[i] as number[];
    const weights = parametersOf(layer).reduce((total, { shape }) => total + numel(shape), 0);
    return {
      layer,
      inShape,
      outShape,
      macs: macsOf(layer, outShape),
      bytes: 4 * (weights + numel(inShape) + numel(outShape)),
    };
  });
}

/** A network's layers without the softmax at its end. */
export function networkLayers(model: string): Layer[] {
  const { name, options } = networkOf(model);
  return createLayers(resolveConfig(name, options)).filter(({ op }) => op !== 'softmax');
}

function macsOf(layer: Layer, outShape: readonly number[]): number {
  if (layer.op === 'conv2d') return numel(outShape) * layer.inChannels * 9;
  if (layer.op === 'linear') return numel(outShape) * layer.inFeatures;
  return 0;
}

/** The sums over a network: only convolutions and linear layers and pools move bytes of their own once fused. */
export function networkCost(model: string, batch: number, size: number): { macs: number; bytes: number } {
  const costs = layerCosts(model, batch, size);
  const moving = costs.filter(
    ({ layer }) => layer.op === 'conv2d' || layer.op === 'linear' || layer.op === 'maxPool2d',
  );
  return {
    macs: costs.reduce((total, { macs }) => total + macs, 0),
    bytes: moving.reduce((total, { bytes }) => total + bytes, 0),
  };
}
