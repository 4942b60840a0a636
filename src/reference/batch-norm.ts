import { VGGNetError } from '../errors.js';
import type { BatchNorm2d } from '../program/layers.js';
import { formatShape, Tensor } from '../tensor.js';
import { type Parameters, present, size4 } from './kernels.js';

/*
 * Batch norm of an (N, C, H, W) tensor, a channel at a time, as torch.nn.BatchNorm2d:
 * y = (x − mean) / √(variance + eps) · weight + bias
 * Source: Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
 * Internal Covariate Shift", 2015.
 */

const EPS = 1e-5;
const MOMENTUM = 0.1;

/** Eval mode: normalises by the running statistics. */
export function batchNorm2d(x: Tensor, parameters: Parameters): Tensor {
  const { running_mean, running_var } = parameters;
  return normalise(x, parameters, present(running_mean), present(running_var));
}

/**
 * Train mode: normalises by the batch's mean and biased variance over (N, H, W), and moves the running
 * statistics a tenth of the way to the batch's mean and unbiased variance, in place.
 * @throws VGGNetError `INVALID_SHAPE` if a channel has only one value, whose variance means nothing
 */
export function batchNorm2dTrain(x: Tensor, layer: BatchNorm2d, parameters: Parameters): Tensor {
  const [N, C, H, W] = size4(x);
  const count = N * H * W;
  if (count === 1) {
    throw new VGGNetError(
      'INVALID_SHAPE',
      `${layer.name}: expected more than 1 value per channel in train mode, got ${formatShape(x.shape)}`,
    );
  }
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
    runningMean[c] = (1 - MOMENTUM) * (runningMean[c] as number) + MOMENTUM * m;
    runningVar[c] = (1 - MOMENTUM) * (runningVar[c] as number) + (MOMENTUM * squares) / (count - 1);
  }
  return normalise(x, parameters, mean, variance);
}

function normalise(x: Tensor, parameters: Parameters, mean: ArrayLike<number>, variance: ArrayLike<number>): Tensor {
  const y = Tensor.zeros(x.shape);
  const weight = present(parameters.weight);
  const bias = present(parameters.bias);
  for (let c = 0; c < mean.length; c++) {
    const deviation = Math.sqrt((variance[c] as number) + EPS);
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
