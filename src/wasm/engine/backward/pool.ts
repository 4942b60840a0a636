import type { AdaptiveAvgPool2d } from '../../../program/layers.js';
import { MAX_POOL2D_ARGMAX } from '../../plan/args-backward.js';
import type { Value } from '../../plan/layout.js';
import type { PlacedValue } from '../../plan/plan.js';
import { gradientValue } from '../../plan/tape.js';
import type { EngineParts } from '../engine.js';
import { type BackwardContext, type Gradient, opposite } from './context.js';

/** The forward of a max-pool that also keeps where each maximum was, from `argmax` of the arena on. */
export function maxPool2dArgmax(parts: EngineParts, input: PlacedValue, output: PlacedValue, argmax: number): void {
  const { heap, kernels } = parts;
  const [n = 0, , h = 0, w = 0] = output.shape;
  kernels.clearBorder(heap.addressOf(output), n, h, w, output.stride);
  runPool(parts, 'MAX_POOL2D_ARGMAX', input, heap.addressOf(input), heap.addressOf(output), argmax);
}

/** In the other buffer. */
export function maxPool2dInputGradient(context: BackwardContext, { buffer }: Gradient, index: number): Gradient {
  const { input, argmax } = context.layer(index);
  const other = opposite(buffer);
  const [dx, dy] = [context.address(other), context.address(buffer)];
  runPool(context.parts, 'MAX_POOL2D_INPUT_GRADIENT', input, dx, dy, argmax as number);
  return { value: gradientValue(input), buffer: other };
}

function runPool(
  { heap, kernels, operations }: EngineParts,
  operation: 'MAX_POOL2D_ARGMAX' | 'MAX_POOL2D_INPUT_GRADIENT',
  { shape, stride }: Value,
  input: number,
  output: number,
  argmax: number,
): void {
  const [images = 0, , height = 0, width = 0] = shape;
  operations.parallel(kernels[operation], [MAX_POOL2D_ARGMAX], {
    input,
    output,
    argmax: heap.arena + argmax,
    images,
    height,
    width,
    stride,
  });
}

/** In the other buffer. */
export function adaptiveAvgPool2dInputGradient(
  context: BackwardContext,
  { outputSize }: AdaptiveAvgPool2d,
  index: number,
  dy: Gradient,
): Gradient {
  const { kernels } = context.parts;
  const value = gradientValue(context.layer(index).input);
  const buffer = opposite(dy.buffer);
  const [n = 0, c = 0, h = 0, w = 0] = value.shape;
  const [from, to] = [context.address(dy.buffer), context.address(buffer)];
  kernels.adaptiveAvgPool2dInputGradient(from, to, n, c, h, w, value.stride, outputSize);
  return { value, buffer };
}
