import type { GPUTensor } from './gpu-tensor.js';
import type { ReluRule } from './program/gradient.js';
import type { Layer } from './program/layers.js';
import type { Precision } from './program/precision.js';
import type { Tensor } from './tensor.js';

/*
 * The contract between the model and what computes it. A backend knows layers, parameters and tensors. It knows nothing
 * of model names, weight files, naming schemes, images or labels; and the model knows nothing of its kernels.
 *
 * `compile` turns a program and its parameters into an executable. Every executable runs, profiles and reads parameters.
 * What only some can do is a facet: an optional member, undefined where the executable can't.
 */

/** What a backend computes: layers in a chain, unfused, so that other programs can be derived from them. */
export interface Program {
  readonly layers: readonly Layer[];
  /** The most common input, for choices that are made once. Inputs of any other shape that fits are allowed. */
  readonly inputShape?: readonly number[] | undefined;
}

/** A run of consecutive values of one parameter, in row-major order. */
export interface ParameterChunk {
  /** torchvision's name, as `parametersOf` gives it. */
  readonly name: string;
  /** Index of the first value. */
  readonly offset: number;
  /** Valid until the next chunk is asked for: the buffer is reused, so that a load does not pile up garbage. */
  readonly data: Float32Array;
}

/** Every parameter of a program, each value once, in chunks of at most about 1 MiB, so that no model is held twice. */
export type ParameterStream = AsyncIterable<ParameterChunk>;

/** Where a model runs. */
export interface DeviceInfo {
  readonly backend: 'reference' | 'wasm' | 'webgpu';
  /** The kernel build ('simd') or the adapter; '' where there is no choice. */
  readonly build: string;
  readonly threads: number;
  /** True if a forward runs on the caller's own thread. */
  readonly inline: boolean;
  /** Why this backend was chosen, in a sentence. */
  readonly reason: string;
}

export interface Backend {
  readonly device: DeviceInfo;
  /** It can compile a program with `gradients`. */
  readonly hasGradients?: boolean;
  /** Precisions this backend rounds weights to itself; for others the caller rounds first. */
  readonly roundsWeights?: readonly Precision[];
  /**
   * Takes ownership of the parameters as they arrive.
   * @throws VGGNetError `OUT_OF_MEMORY`, `ABORTED`, or whatever the stream throws; nothing stays allocated then
   */
  compile(program: Program, parameters: ParameterStream, options?: CompileOptions): Promise<Executable>;
  /** For each layer, the bytes of what `compile` derives from its weights and keeps in addition. */
  derivedBytes?(program: Program): readonly number[];
}

export interface CompileOptions {
  readonly signal?: AbortSignal | undefined;
  /** Names of the parameters that get gradients, which may be none; undefined for a program that runs forward only. */
  readonly gradients?: ReadonlySet<string> | undefined;
  /**
   * Reads the parameters again, from the start. A backend that can lose them, as a GPU can, then recovers by itself;
   * without it the model has to be created again.
   */
  readonly reopen?: (() => ParameterStream) | undefined;
}

/** A program with its parameters, ready to run. Overlapping calls run one after another. */
export interface Executable {
  /**
   * The caller has checked the input against the program (`inferShapes`). It is copied before the call returns.
   * @throws VGGNetError `OUT_OF_MEMORY`, `ABORTED`, `DISPOSED`, `WORKER_CRASHED`, `DEVICE_LOST`, `GPU_ERROR`
   */
  run(input: Tensor, options: RunOptions): Promise<Tensor[]>;
  /** Runs, and returns the time of each step instead of the outputs. */
  profile(input: Tensor, options: RunOptions): Promise<StepTime[]>;
  /** A copy of a parameter's current values. */
  readParameter(name: string): Promise<Float32Array>;
  /** Frees everything. Runs in progress reject with `DISPOSED`. May be called twice. */
  dispose(): void;
  /** On a GPU: tensors that stay there. */
  readonly gpu?: GPUExecutable;
  /** Undefined unless the program was compiled with `gradients`. */
  readonly autograd?: Autograd;
}

export interface RunOptions {
  /** Names of layers, each a `Layer.name`; their outputs come back in this order. Later layers are not run. */
  readonly outputs: readonly string[];
  /** 'train' applies dropout; batch norm normalizes by the batch's statistics, and updates the running ones. */
  readonly mode: 'eval' | 'train';
  /** Seeds dropout: an integer from 0 to 2^32 − 1. */
  readonly seed: number;
  readonly signal?: AbortSignal | undefined;
}

/** The time of one step of a run. */
export interface StepTime {
  /** The layer, with those that were fused into it after a '+'. */
  readonly name: string;
  /** For a convolution 'direct', 'int8', or 'winograd4' and the like with the tile's size; '' where there is no choice. */
  readonly algorithm: string;
  readonly ms: number;
}

/** The facet of an executable on a GPU: tensors go in and come out without leaving it. */
export interface GPUExecutable {
  /** The device that the parameters are on now; another one after it was lost. */
  device(): Promise<GPUDevice>;
  /** As `run`. With `place` 'gpu' each result is a buffer that becomes the caller's. */
  runOn(input: Tensor | GPUTensor, options: RunOptions, place: 'cpu' | 'gpu'): Promise<(Tensor | GPUTensor)[]>;
  /** Copies a tensor to a buffer that becomes the caller's. */
  upload(tensor: Tensor): Promise<GPUTensor>;
}

/** The backward pass (program/gradient.ts), in the queue that runs are in. */
export interface Autograd {
  /** A run that keeps what backward needs. There is one tape at a time: any later run drops it. */
  record(input: Tensor, options: RunOptions): Promise<Recording>;
  /** The sum of a parameter's gradients since they were last cleared; it must be one of `gradients`. */
  readGradient(name: string): Promise<Float32Array>;
  zeroGradients(): Promise<void>;
  /** (N, C, H, W) → (N, C, C): G[n, c, d] = Σ x[n, c, i] · x[n, d, i], over the H · W places i. */
  gram(x: Tensor): Promise<Tensor>;
  /** The gradient of x for a gradient of its Gram matrices: dx[n, c, i] = Σ (dG[n, c, d] + dG[n, d, c]) · x[n, d, i]. */
  gramBackward(x: Tensor, cotangent: Tensor): Promise<Tensor>;
  /** Σ a · b. The gradients are multiples of b and of a: `axpy`. */
  dot(a: Tensor, b: Tensor): Promise<number>;
  /** alpha · x + y, in a new tensor. The gradient of y is the result's, and of x alpha times that: `axpy` too. */
  axpy(alpha: number, x: Tensor, y: Tensor): Promise<Tensor>;
}

/** What a run kept. */
export interface Recording {
  readonly outputs: readonly Tensor[];
  /**
   * Adds to the gradients of the parameters, and gives those asked for. May be called again. One that fails once it has
   * begun clears the gradients of all parameters.
   * @throws VGGNetError `TAPE_DROPPED`, and as `run`
   */
  backward(options: BackwardOptions): Promise<Tensor[]>;
  dispose(): void;
}

export interface BackwardOptions {
  /** By the name of a layer that was recorded, shaped as its output. They are copied before the call returns. */
  readonly cotangents: ReadonlyMap<string, Tensor>;
  /** Names of layers, or 'input'; their gradients come back in this order. */
  readonly wrt: readonly string[];
  readonly reluRule: ReluRule;
  readonly signal?: AbortSignal | undefined;
}
