import type { BatchNorm2d } from '../program/layers.js';
import { checkStatistics } from '../program/shape.js';
import { Tensor } from '../tensor.js';
import { type Parameters, present, size4 } from './kernels.js';

/*
 * Batch norm of an (N, C, H, W) tensor, a channel at a time, as torch.nn.BatchNorm2d:
 * y = (x − mean) / √(variance + eps) · weight + bias
 * Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
 * Internal Covariate Shift", 2015.
 */

/** Eval mode: normalizes by the running statistics. */
export function batchNorm2d(x: Tensor, layer: BatchNorm2d, parameters: Parameters): Tensor {
  const { running_mean, running_var } = parameters;
  return normalize(x, layer, parameters, present(running_mean), present(running_var));
}

/**
 * Train mode: normalizes by the batch's mean and biased variance over (N, H, W), and moves the running
 * statistics by `momentum` towards the batch's mean and unbiased variance, in place.
 * @throws VGGNetError `INVALID_SHAPE` if a channel has only one value, whose variance means nothing
 */
export function batchNorm2dTrain(x: Tensor, layer: BatchNorm2d, parameters: Parameters): Tensor {
  checkStatistics(layer, x.shape);
  const { momentum } = layer;
  const [N, C, H, W] = size4(x);
  const count = N * H * W;
  const runningMean = present(parameters.running_mean);
  const runningVar = present(parameters.running_var);
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
    runningMean[c] = (1 - momentum) * (runningMean[c] as number) + momentum * m;
    runningVar[c] = (1 - momentum) * (runningVar[c] as number) + (momentum * squares) / (count - 1);
  }
  return normalize(x, layer, parameters, mean, variance);
}

function normalize(
  x: Tensor,
  { eps }: BatchNorm2d,
  parameters: Parameters,
  mean: ArrayLike<number>,
  variance: ArrayLike<number>,
): Tensor {
  const y = Tensor.zeros(x.shape);
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

/** The positions of one channel's values, over all images. */
function* channelIndices(x: Tensor, channel: number): Generator<number> {
  const [N, C, H, W] = size4(x);
  for (let n = 0; n < N; n++) {
    const first = (n * C + channel) * H * W;
    for (let i = first; i < first + H * W; i++) yield i;
  }
}
