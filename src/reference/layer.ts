import type { RunOptions } from '../backend.js';
import type { ReluRule } from '../program/gradient.js';
import { type Layer, usesBatchStatistics } from '../program/layers.js';
import * as op from './operations.js';
import { type Floats, type Parameters, present, type Value } from './value.js';

/* A layer as its operation, by what it is called in the program. */

export type Mode = Pick<RunOptions, 'mode' | 'seed'>;

/** y of a layer. Batch norm in train mode changes the running statistics. */
export function forward(layer: Layer, index: number, x: Value, parameters: Parameters, { mode, seed }: Mode): Value {
  switch (layer.op) {
    case 'conv2d':
      return op.conv2d(x, layer, parameters);
    case 'batchNorm2d':
      return usesBatchStatistics(layer, mode)
        ? op.batchNorm2dTrain(x, layer, parameters)
        : op.batchNorm2d(x, layer, parameters);
    case 'relu':
      return op.relu(x);
    case 'maxPool2d':
      return op.maxPool2d(x);
    case 'adaptiveAvgPool2d':
      return op.adaptiveAvgPool2d(x, layer);
    case 'flatten':
      return op.flatten(x);
    case 'linear':
      return op.linear(x, layer, parameters);
    case 'dropout':
      return mode === 'train' ? op.dropout(x, layer, seed, index) : x;
    case 'softmax':
      return op.softmax(x);
  }
}

/** A layer's input and output. */
export interface Kept {
  readonly x: Value;
  readonly y: Value;
}

/** dx of a layer, for dy. */
export function inputGradient(
  layer: Layer,
  index: number,
  dy: Value,
  { x, y }: Kept,
  parameters: Parameters,
  { mode, seed, reluRule }: Mode & { readonly reluRule: ReluRule },
): Value {
  switch (layer.op) {
    case 'conv2d':
      return op.conv2dInputGradient(dy, layer, present(parameters.weight));
    case 'batchNorm2d':
      return usesBatchStatistics(layer, mode)
        ? op.batchNorm2dTrainInputGradient(dy, x, layer, parameters)
        : op.batchNorm2dInputGradient(dy, layer, parameters);
    case 'relu':
      return op.reluInputGradient(dy, y, reluRule);
    case 'maxPool2d':
      return op.maxPool2dInputGradient(dy, x);
    case 'adaptiveAvgPool2d':
      return op.adaptiveAvgPool2dInputGradient(dy, layer, x.shape);
    case 'flatten':
      return op.flattenInputGradient(dy, x.shape);
    case 'linear':
      return op.linearInputGradient(dy, layer, present(parameters.weight));
    case 'dropout':
      return mode === 'train' ? op.dropoutInputGradient(dy, layer, seed, index) : dy;
    case 'softmax':
      return op.softmaxInputGradient(dy, y);
  }
}

/** The gradients of a layer's parameters, by their last name, for dy. */
export function parameterGradients(
  layer: Layer,
  dy: Value,
  { x }: Kept,
  parameters: Parameters,
  { mode }: Mode,
): Record<string, Floats> {
  switch (layer.op) {
    case 'conv2d':
      return op.conv2dParameterGradients(dy, x);
    case 'linear':
      return op.linearParameterGradients(dy, x);
    case 'batchNorm2d': {
      const statistics = usesBatchStatistics(layer, mode) ? op.batchStatistics(x) : op.runningStatistics(parameters);
      return op.batchNorm2dParameterGradients(dy, x, layer, statistics);
    }
    default:
      return {};
  }
}
