import { type BatchNorm2d, usesBatchStatistics } from '../../../program/layers.js';
import { BATCH_NORM2D_BACKWARD } from '../../plan/args-backward.js';
import { BYTES } from '../../plan/layout.js';
import type { Heap } from '../heap.js';
import { channelSums, channelVectors } from './channel-sums.js';
import type { BackwardContext, Gradient } from './context.js';

/** In place. */
export function batchNorm2dInputGradient(
  context: BackwardContext,
  layer: BatchNorm2d,
  index: number,
  dy: Gradient,
): void {
  const { heap, kernels, operations, parameters } = context.parts;
  const { channels } = layer;
  const { stride, shape } = dy.value;
  const [images = 0, , height = 0, width = 0] = shape;
  const { input } = context.layer(index);
  const { mean, variance } = statisticsOf(context, layer, index);
  const sums = usesBatchStatistics(layer, context.options.mode) ? channelSums(context, dy, input, mean) : undefined;
  const count = images * height * width;
  const weights = readVector(heap, parameters.norm(index).weight, channels);
  const vectors = channelVectors(context, stride);
  for (let c = 0; c < stride; c++) {
    const inverse = c < channels ? 1 / ((variance[c] as number) + layer.eps) : 0;
    const scale = c < channels ? (weights[c] as number) * Math.sqrt(inverse) : 0;
    heap.f32[vectors.mean / BYTES + c] = mean[c] ?? 0;
    heap.f32[vectors.scale / BYTES + c] = scale;
    heap.f32[vectors.slope / BYTES + c] = sums ? (scale * (sums.products[c] as number) * inverse) / count : 0;
    heap.f32[vectors.shift / BYTES + c] = sums ? (scale * (sums.totals[c] as number)) / count : 0;
  }
  const gradient = context.address(dy.buffer);
  if (!sums) {
    kernels.affine2d(gradient, images, height, width, stride, vectors.scale, vectors.shift, 0);
    return;
  }
  operations.parallel(kernels.BATCH_NORM2D_INPUT_GRADIENT, [BATCH_NORM2D_BACKWARD], {
    gradient,
    values: heap.addressOf(input),
    mean: vectors.mean,
    scale: vectors.scale,
    slope: vectors.slope,
    shift: vectors.shift,
    images,
    height,
    width,
    stride,
  });
}

export function batchNorm2dParameterGradients(
  context: BackwardContext,
  layer: BatchNorm2d,
  index: number,
  dy: Gradient,
  names: readonly string[],
): void {
  const { mean, variance } = statisticsOf(context, layer, index);
  const { totals, products } = channelSums(context, dy, context.layer(index).input, mean);
  const weight = `${layer.path}.weight`;
  if (names.includes(weight)) {
    const sums = products.map((sum, c) => sum / Math.sqrt((variance[c] as number) + layer.eps));
    context.add(weight, sums, layer.channels);
  }
  const bias = `${layer.path}.bias`;
  if (names.includes(bias)) context.add(bias, totals, layer.channels);
}

/** The statistics that the forward normalized by: the running ones, or the batch's, computed again from its input. */
function statisticsOf(
  context: BackwardContext,
  layer: BatchNorm2d,
  index: number,
): { mean: Float32Array; variance: Float32Array } {
  const { heap, kernels, parameters } = context.parts;
  const { channels } = layer;
  if (!usesBatchStatistics(layer, context.options.mode)) {
    const { runningMean, runningVar } = parameters.norm(index);
    return { mean: readVector(heap, runningMean, channels), variance: readVector(heap, runningVar, channels) };
  }
  const { input } = context.layer(index);
  const [n = 0, , h = 0, w = 0] = input.shape;
  const { mean, scale: variance } = channelVectors(context, input.stride);
  kernels.batchStatistics(heap.addressOf(input), n, h, w, input.stride, mean, variance);
  return { mean: readVector(heap, mean, channels), variance: readVector(heap, variance, channels) };
}

/** A copy. */
function readVector({ f32 }: Heap, address: number, channels: number): Float32Array {
  return f32.slice(address / BYTES, address / BYTES + channels);
}
