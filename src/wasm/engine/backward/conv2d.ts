import type { Conv2d } from '../../../program/layers.js';
import { CONVOLUTION, EPILOGUE, WINOGRAD } from '../../plan/args.js';
import { CONV2D_WEIGHT_GRADIENT, FLIP_CONV2D } from '../../plan/args-backward.js';
import { BYTES } from '../../plan/layout.js';
import { flippedParts, gradientValue } from '../../plan/tape.js';
import { winogradArgs } from '../operations.js';
import { channelSums } from './channel-sums.js';
import { type BackwardContext, type Gradient, opposite } from './context.js';

/** A convolution of dy with the weights flipped, and inputs and outputs exchanged. */
export function conv2dInputGradient(context: BackwardContext, layer: Conv2d, index: number, dy: Gradient): Gradient {
  const { heap, kernels, operations, parameters, buffers } = context.parts;
  const tape = context.layer(index);
  const { winograd } = tape;
  const input = gradientValue(tape.input);
  const { weight, inStride } = parameters.conv(index);
  const parts = flippedParts(layer, winograd);
  const ends = context.workspace;
  const flipped = ends + parts.ends;
  const transformed = flipped + parts.flipped;
  const buffer = opposite(dy.buffer);
  const [images = 0, , height = 0, width = 0] = input.shape;
  const outStride = dy.value.stride;
  heap.f32.fill(1, ends / BYTES, (ends + parts.ends / 2) / BYTES);
  heap.f32.fill(0, (ends + parts.ends / 2) / BYTES, flipped / BYTES);
  kernels.clearBorder(context.address(dy.buffer), images, height, width, outStride);
  kernels.clearBorder(context.address(buffer), images, height, width, input.stride);
  operations.parallel(kernels.FLIP_CONV2D, [FLIP_CONV2D], { packed: weight, flipped, inStride, outStride });
  const common = {
    scale: ends,
    shift: ends + parts.ends / 2,
    relu: 0,
    outChannels: layer.inChannels,
    input: context.address(dy.buffer),
    output: context.address(buffer),
    weights: flipped,
    pool: 0,
    images,
    height,
    width,
    inStride: outStride,
    outStride: input.stride,
    scratch: buffers.scratch,
  };
  if (winograd) {
    kernels.packWinograd(winograd.size, flipped, transformed, layer.inChannels, outStride, buffers.scratch);
    operations.parallel(kernels.WINOGRAD, [EPILOGUE, CONVOLUTION, WINOGRAD], {
      ...common,
      ...winogradArgs(winograd, input.shape),
      weights: transformed,
      direct: flipped,
      workspace: transformed + parts.transformed,
    });
  } else {
    operations.parallel(kernels.CONV2D, [EPILOGUE, CONVOLUTION], common);
  }
  return { value: input, buffer };
}

export function conv2dParameterGradients(
  context: BackwardContext,
  layer: Conv2d,
  index: number,
  dy: Gradient,
  names: readonly string[],
): void {
  const { heap, kernels, operations } = context.parts;
  const { input } = context.layer(index);
  const [images = 0, , height = 0, width = 0] = input.shape;
  const weight = `${layer.path}.weight`;
  if (names.includes(weight)) {
    operations.parallel(kernels.CONV2D_WEIGHT_GRADIENT, [CONV2D_WEIGHT_GRADIENT], {
      input: heap.addressOf(input),
      gradient: context.address(dy.buffer),
      weights: context.gradients.addressOf(weight),
      images,
      height,
      width,
      inStride: input.stride,
      outStride: dy.value.stride,
    });
  }
  const bias = `${layer.path}.bias`;
  if (names.includes(bias)) context.add(bias, channelSums(context, dy).totals, layer.outChannels);
}
