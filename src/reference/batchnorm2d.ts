import type { BatchNorm2d } from '../program/layers.js';
import { checkStatistics } from '../program/shape.js';
import { type Floats, type Parameters, present, size4, type Value, zerosLike } from './value.js';

/*
 * Batch norm of an (N, C, H, W) value, a channel at a time, as torch.nn.BatchNorm2d:
 * y = (x − mean) / √(variance + eps) · weight + bias
 * Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
 * Internal Covariate Shift", 2015.
 */

/** What a value is normalized by: a mean and a variance for each channel. */
export interface Statistics {
  readonly mean: ArrayLike<number>;
  readonly variance: ArrayLike<number>;
}

/** Eval mode: normalizes by the running statistics. */
export function batchNorm2d(x: Value, layer: BatchNorm2d, parameters: Parameters): Value {
  return normalize(x, layer, parameters, runningStatistics(parameters));
}

/**
 * Train mode: normalizes by the batch's mean and biased variance over (N, H, W), and moves the running
 * statistics by `momentum` toward the batch's mean and unbiased variance, in place.
 * @throws VGGNetError `INVALID_SHAPE` if a channel has only one value, whose variance means nothing
 */
export function batchNorm2dTrain(x: Value, layer: BatchNorm2d, parameters: Parameters): Value {
  checkStatistics(layer, x.shape);
  const { momentum } = layer;
  const [N, C, H, W] = size4(x);
  const count = N * H * W;
  const runningMean = present(parameters.running_mean);
  const runningVar = present(parameters.running_var);
  const statistics = batchStatistics(x);
  for (let c = 0; c < C; c++) {
    const unbiased = ((statistics.variance[c] as number) * count) / (count - 1);
    runningMean[c] = (1 - momentum) * (runningMean[c] as number) + momentum * (statistics.mean[c] as number);
    runningVar[c] = (1 - momentum) * (runningVar[c] as number) + momentum * unbiased;
  }
  return normalize(x, layer, parameters, statistics);
}

export function runningStatistics({ running_mean, running_var }: Parameters): Statistics {
  return { mean: present(running_mean), variance: present(running_var) };
}

/** The mean and the biased variance of each channel over (N, H, W). */
export function batchStatistics(x: Value): Statistics {
  const [N, C, H, W] = size4(x);
  const count = N * H * W;
  const mean = new Float64Array(C);
  const variance = new Float64Array(C);
  for (let c = 0; c < C; c++) {
    let sum = 0;
    for (const i of channelIndices(x, c)) sum += x.data[i] as number;
    const m = sum / count;
    let squares = 0;
    for (const i of channelIndices(x, c)) squares += ((x.data[i] as number) - m) ** 2;
    mean[c] = m;
    variance[c] = squares / count;
  }
  return { mean, variance };
}

function normalize(x: Value, { eps }: BatchNorm2d, parameters: Parameters, { mean, variance }: Statistics): Value {
  const y = zerosLike(x);
  const weight = present(parameters.weight);
  const bias = present(parameters.bias);
  for (let c = 0; c < mean.length; c++) {
    const deviation = Math.sqrt((variance[c] as number) + eps);
    for (const i of channelIndices(x, c)) {
      const normal = ((x.data[i] as number) - (mean[c] as number)) / deviation;
      y.data[i] = normal * (weight[c] as number) + (bias[c] as number);
    }
  }
  return y;
}

/** Statistics that do not depend on x: dx = dy · weight / √(variance + eps) */
export function batchNorm2dInputGradient(dy: Value, { eps }: BatchNorm2d, parameters: Parameters): Value {
  const dx = zerosLike(dy);
  const weight = present(parameters.weight);
  const { variance } = runningStatistics(parameters);
  for (let c = 0; c < weight.length; c++) {
    const scale = (weight[c] as number) / Math.sqrt((variance[c] as number) + eps);
    for (const i of channelIndices(dy, c)) dx.data[i] = (dy.data[i] as number) * scale;
  }
  return dx;
}

/**
 * Statistics of the batch, which depend on x too. With n = N · H · W and p = Σ dy · (x − mean),
 * dx = (dy − (x − mean) · p / (variance + eps) / n − Σ dy / n) · weight / √(variance + eps)
 */
export function batchNorm2dTrainInputGradient(
  dy: Value,
  x: Value,
  { eps }: BatchNorm2d,
  parameters: Parameters,
): Value {
  const dx = zerosLike(dy);
  const [N, C, H, W] = size4(x);
  const count = N * H * W;
  const weight = present(parameters.weight);
  const { mean, variance } = batchStatistics(x);
  for (let c = 0; c < C; c++) {
    const m = mean[c] as number;
    const inverse = 1 / ((variance[c] as number) + eps);
    const { total, product } = channelSums(dy, x, c, m);
    for (const i of channelIndices(x, c)) {
      const centered =
        (dy.data[i] as number) - ((x.data[i] as number) - m) * ((product * inverse) / count) - total / count;
      dx.data[i] = centered * (weight[c] as number) * Math.sqrt(inverse);
    }
  }
  return dx;
}

/** dweight = Σ dy · (x − mean) / √(variance + eps); dbias = Σ dy. In both modes, by what x was normalized by. */
export function batchNorm2dParameterGradients(
  dy: Value,
  x: Value,
  { eps }: BatchNorm2d,
  { mean, variance }: Statistics,
): { weight: Floats; bias: Floats } {
  const weight = zerosLike(dy, [mean.length]).data;
  const bias = zerosLike(dy, [mean.length]).data;
  for (let c = 0; c < mean.length; c++) {
    const { total, product } = channelSums(dy, x, c, mean[c] as number);
    weight[c] = product / Math.sqrt((variance[c] as number) + eps);
    bias[c] = total;
  }
  return { weight, bias };
}

/** Σ dy and Σ dy · (x − mean) of a channel. */
function channelSums(dy: Value, x: Value, channel: number, mean: number): { total: number; product: number } {
  let total = 0;
  let product = 0;
  for (const i of channelIndices(x, channel)) {
    total += dy.data[i] as number;
    product += (dy.data[i] as number) * ((x.data[i] as number) - mean);
  }
  return { total, product };
}

/** The positions of one channel's values, over all images. */
function* channelIndices(x: Value, channel: number): Generator<number> {
  const [N, C, H, W] = size4(x);
  for (let n = 0; n < N; n++) {
    const first = (n * C + channel) * H * W;
    for (let i = first; i < first + H * W; i++) yield i;
  }
}
