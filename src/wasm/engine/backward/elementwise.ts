import { dropoutBase, dropoutScale, dropoutThreshold } from '../../../program/dropout.js';
import type { Dropout } from '../../../program/layers.js';
import { numel } from '../../../tensor.js';
import { ELEMENTWISE_BACKWARD } from '../../plan/args-backward.js';
import { BYTES, type Value, valueBytes } from '../../plan/layout.js';
import type { PlacedValue } from '../../plan/plan.js';
import type { BackwardContext, Gradient } from './context.js';

/* The operations that change a gradient in place. */

/** @param output the ReLU's, or that of the max-pool after it for a gradient that is `pooled` */
export function reluInputGradient(context: BackwardContext, { buffer, value }: Gradient, output: PlacedValue): void {
  runElementwise(context, 'RELU_INPUT_GRADIENT', buffer, context.parts.heap.addressOf(output), value);
}

/** Adds what is at an address, laid out as the gradient is. */
export function addGradient(context: BackwardContext, buffer: 0 | 1, values: number, value: Value): void {
  runElementwise(context, 'ADD_GRADIENT', buffer, values, value);
}

function runElementwise(
  context: BackwardContext,
  operation: 'RELU_INPUT_GRADIENT' | 'ADD_GRADIENT',
  buffer: 0 | 1,
  values: number,
  value: Value,
): void {
  const { kernels, operations } = context.parts;
  operations.parallel(kernels[operation], [ELEMENTWISE_BACKWARD], {
    gradient: context.address(buffer),
    values,
    count: valueBytes(value) / BYTES,
    guided: Number(context.reluRule === 'guided'),
  });
}

/** Multiplies by the mask of the forward. */
export function dropoutInputGradient(context: BackwardContext, { p }: Dropout, index: number, dy: Gradient): void {
  const { mode, seed } = context.options;
  if (mode !== 'train') return;
  const count = numel(context.layer(index).input.shape);
  const base = dropoutBase(seed, index);
  context.parts.kernels.dropout(context.address(dy.buffer), count, base, dropoutThreshold(p), dropoutScale(p));
}

export function softmaxInputGradient(context: BackwardContext, index: number, dy: Gradient): void {
  const { heap, kernels } = context.parts;
  const { input, output } = context.layer(index);
  const [rows = 0, count = 0] = input.shape;
  kernels.softmaxInputGradient(context.address(dy.buffer), heap.addressOf(output), rows, count);
}
