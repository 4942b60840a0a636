import type { Linear } from '../../../program/layers.js';
import { LINEAR_BACKWARD } from '../../plan/args-backward.js';
import { BYTES } from '../../plan/layout.js';
import { gradientValue } from '../../plan/tape.js';
import { type BackwardContext, type Gradient, opposite } from './context.js';

export function linearInputGradient(context: BackwardContext, layer: Linear, index: number, dy: Gradient): Gradient {
  const { kernels, operations, parameters } = context.parts;
  const input = gradientValue(context.layer(index).input);
  const buffer = opposite(dy.buffer);
  operations.parallel(kernels.LINEAR_INPUT_GRADIENT, [LINEAR_BACKWARD], {
    gradient: context.address(dy.buffer),
    weights: parameters.linear(index).weight,
    values: context.address(buffer),
    batch: input.shape[0] as number,
    inFeatures: layer.inFeatures,
    outFeatures: layer.outFeatures,
  });
  return { value: input, buffer };
}

export function linearParameterGradients(
  context: BackwardContext,
  layer: Linear,
  index: number,
  dy: Gradient,
  names: readonly string[],
): void {
  const { heap, kernels, operations } = context.parts;
  const { input } = context.layer(index);
  const { inFeatures, outFeatures } = layer;
  const batch = input.shape[0] as number;
  const weight = `${layer.path}.weight`;
  if (names.includes(weight)) {
    operations.parallel(kernels.LINEAR_WEIGHT_GRADIENT, [LINEAR_BACKWARD], {
      gradient: context.address(dy.buffer),
      weights: context.gradients.addressOf(weight),
      values: heap.addressOf(input),
      batch,
      inFeatures,
      outFeatures,
    });
  }
  const bias = `${layer.path}.bias`;
  if (!names.includes(bias)) return;
  const start = context.address(dy.buffer) / BYTES;
  const sums = new Float64Array(outFeatures);
  for (let i = 0; i < batch * outFeatures; i++) {
    sums[i % outFeatures] = (sums[i % outFeatures] as number) + (heap.f32[start + i] as number);
  }
  context.add(bias, sums, outFeatures);
}
