import { VGGNetError } from '../errors.js';
import { checkShape, formatShape, numel } from '../tensor.js';
import type { Layer } from './layers.js';

/** The shape that a layer makes of a shape. */
export function outputShape(layer: Layer, input: readonly number[]): number[] {
  const [n = 0, c = 0, h = 0, w = 0] = input;
  switch (layer.op) {
    case 'conv2d':
      return [n, layer.outChannels, h, w];
    case 'maxPool2d':
      return [n, c, Math.floor(h / 2), Math.floor(w / 2)];
    case 'adaptiveAvgPool2d':
      return [n, c, layer.outputSize, layer.outputSize];
    case 'flatten':
      return [n, c * h * w];
    case 'linear':
      return [n, layer.outFeatures];
    default:
      return [...input];
  }
}

/**
 * The output shape of every layer in a chain, checked: the one place where shapes are validated.
 * @param mode in 'train', batch norm also needs more than one value per channel
 * @throws VGGNetError `INVALID_SHAPE` that says what was expected, what came, and in which layer
 */
export function inferShapes(
  layers: readonly Layer[],
  input: readonly number[],
  mode: 'eval' | 'train' = 'eval',
): number[][] {
  let shape = [...checkSizes(input)];
  return layers.map((layer) => {
    checkInput(layer, shape, layers, input);
    if (mode === 'train') checkStatistics(layer, shape);
    shape = outputShape(layer, shape);
    return shape;
  });
}

/**
 * Refuses one value per channel for batch norm in train mode, unless frozen, as PyTorch does: its variance means nothing.
 * @throws VGGNetError `INVALID_SHAPE`
 */
export function checkStatistics(layer: Layer, shape: readonly number[]): void {
  if (layer.op !== 'batchNorm2d' || layer.frozen || numel(shape) > layer.channels) return;
  throw new VGGNetError(
    'INVALID_SHAPE',
    `${layer.name}: expected more than 1 value per channel in train mode, got ${formatShape(shape)}`,
  );
}

/** The side of the smallest input that the pools allow. */
export function leastSide(layers: readonly Layer[]): number {
  return 2 ** layers.filter((layer) => layer.op === 'maxPool2d').length;
}

/**
 * The side of the images that a network usually takes, and no less than its pools need.
 * @param crop the side of its preset's images, if that has one. Default 224.
 */
export function usualSide(layers: readonly Layer[], crop?: number | null): number {
  return Math.max(crop ?? 224, leastSide(layers));
}

/** The shape of one usual input. */
export function usualShape(layers: readonly Layer[], crop?: number | null): number[] {
  const first = layers[0] as Layer;
  if (first.op === 'linear') return [1, first.inFeatures];
  const conv = layers.find((layer) => layer.op === 'conv2d');
  const side = usualSide(layers, crop);
  return [1, conv?.inChannels ?? 1, side, side];
}

function checkSizes(shape: readonly number[]): readonly number[] {
  checkShape(shape);
  if (shape[0] === 0) {
    throw new VGGNetError('INVALID_SHAPE', `Expected a batch of at least 1, got ${formatShape(shape)}`);
  }
  return shape;
}

function checkInput(layer: Layer, shape: readonly number[], layers: readonly Layer[], input: readonly number[]): void {
  const fail = (expected: string): never => {
    throw new VGGNetError('INVALID_SHAPE', `${layer.name}: expected ${expected}, got ${formatShape(shape)}`);
  };
  const [, c = 0, h = 0, w = 0] = shape;
  switch (layer.op) {
    case 'conv2d':
      if (shape.length !== 4) fail(`an input of shape (N, ${layer.inChannels}, H, W)`);
      if (c !== layer.inChannels) fail(`${layer.inChannels} channels, (N, ${layer.inChannels}, H, W)`);
      if (h < 1 || w < 1) fail('a height and width of at least 1');
      return;
    case 'batchNorm2d':
      if (shape.length !== 4 || c !== layer.channels) fail(`(N, ${layer.channels}, H, W)`);
      return;
    case 'maxPool2d':
      if (shape.length !== 4) fail('(N, C, H, W)');
      if (h < 2 || w < 2) {
        const least = leastSide(layers);
        fail(`at least 2×2, so at least ${least}×${least} for this network's input of ${formatShape(input)}`);
      }
      return;
    case 'adaptiveAvgPool2d':
    case 'flatten':
      if (shape.length !== 4) fail('(N, C, H, W)');
      return;
    case 'linear':
      if (shape.length !== 2 || shape[1] !== layer.inFeatures) fail(`(N, ${layer.inFeatures})`);
      return;
    case 'softmax':
      if (shape.length !== 2) fail('(N, F)');
      return;
    default:
      return;
  }
}
