import type { DeviceInfo } from '../backend.js';
import type { DeviceName } from '../model/options.js';
import type { VGGNet } from '../model.js';
import type { Layer } from '../program/layers.js';
import { inferShapes, usualSide } from '../program/shape.js';
import { Tensor } from '../tensor.js';
import type { VGGConfig } from '../vgg.js';
import { checkUsage } from './failure.js';
import { describeModel, isRemote, loadModel, type ModelChoice } from './model.js';

export interface LatencyOptions {
  readonly device: DeviceName;
  readonly batch: number;
  /** Side of the input in pixels. Default: that of the model's images. */
  readonly size: number | undefined;
  readonly samples: number;
  readonly warmup: number;
  readonly signal: AbortSignal;
}

/** How long one model takes in this process. */
export interface Latency {
  readonly model: string;
  readonly device: DeviceInfo;
  readonly batch: number;
  readonly inputShape: readonly number[];
  readonly loadMs: number;
  readonly forwardMs: { readonly median: number; readonly min: number; readonly p90: number };
  /** 2 · multiply-accumulates of the convolutions and linear layers, over the median. */
  readonly gflops: number;
  /** The most memory that the process has held so far, in bytes. */
  readonly peakRss: number;
}

/** Loads a model and times its forward, input and output included. */
export async function measureLatency(choice: ModelChoice, options: LatencyOptions): Promise<Latency> {
  const { device, batch, samples, warmup, signal } = options;
  // Before the weights are made, unless that would take a second download.
  if (!isRemote(choice)) {
    const { config, layers } = await describeModel(choice, signal);
    checkUsage(() => inferShapes(layers, shapeOf(config, layers, options)));
  }
  const { model, loadMs } = await loadModel(choice, { device, signal });
  try {
    const shape = shapeOf(model.config, model.layers, options);
    const { macs } = checkUsage(() => model.summary(shape));
    const input = checkUsage(() => Tensor.randn(shape));
    const times = await timeForwards(model, input, samples, warmup, signal);
    const median = medianOf(times);
    return {
      model: model.config.name,
      device: model.device,
      batch,
      inputShape: shape,
      loadMs,
      forwardMs: { median, min: times[0] as number, p90: times[Math.ceil(0.9 * times.length) - 1] as number },
      gflops: (2 * macs) / (median * 1e6),
      peakRss: process.resourceUsage().maxRSS * 1024,
    };
  } finally {
    model.dispose();
  }
}

function shapeOf(config: VGGConfig, layers: readonly Layer[], { batch, size }: LatencyOptions): number[] {
  const side = size ?? usualSide(layers, config.preset?.crop);
  return [batch, config.inChannels, side, side];
}

/** Milliseconds of each forward after the warm-up, in ascending order. */
async function timeForwards(
  model: VGGNet,
  input: Tensor,
  samples: number,
  warmup: number,
  signal: AbortSignal,
): Promise<number[]> {
  const times: number[] = [];
  for (let i = -warmup; i < samples; i++) {
    const start = performance.now();
    await model.forward(input, { signal });
    if (i >= 0) times.push(performance.now() - start);
  }
  return times.sort((a, b) => a - b);
}

export function medianOf(ascending: readonly number[]): number {
  const middle = ascending.length >> 1;
  const high = ascending[middle] as number;
  return ascending.length % 2 === 1 ? high : ((ascending[middle - 1] as number) + high) / 2;
}
