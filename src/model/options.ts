import type { StepTime } from '../backend.js';
import type { PrecisionOptions } from '../program/precision.js';
import type { WeightsInput } from '../weights/bytes/bytes.js';
import type { ModelOptions } from './config.js';
import type { DeviceOptions } from './device.js';
import type { ImageOptions, LoadOptions } from './load.js';
import type { GradientOptions } from './record.js';

export interface CreateOptions
  extends ModelOptions,
    LoadOptions,
    ImageOptions,
    DeviceOptions,
    PrecisionOptions,
    GradientOptions {
  /**
   * A weights file (safetensors, .pth, .onnx, .npz): path, URL, bytes, Blob, Response or stream. Without one the weights
   * are random.
   */
  weights?: WeightsInput | undefined;
}

export interface ForwardOptions {
  /** Stops the forward within one layer; the model stays usable. */
  signal?: AbortSignal | undefined;
}

/** On WebGPU: results stay on the GPU, in a buffer of the caller's each. */
export interface OnGPU {
  output: 'gpu';
}

export interface ClassifyOptions extends ForwardOptions {
  /** How many classes to give, best first. Default 5, or all if there are fewer. */
  topK?: number | undefined;
}

/** The times of one forward. */
export interface Profile {
  readonly layers: readonly (StepTime & {
    /** Multiply-accumulates. */
    readonly macs: number;
  })[];
  readonly totalMs: number;
}
