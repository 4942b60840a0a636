import type { ImagePreset } from '../image/preset.js';
import type { ReluRule } from '../program/gradient.js';
import type { Precision } from '../program/precision.js';
import type { ModelOptions } from '../vgg.js';
import type { Threads } from '../wasm/workers/threads.js';
import type { WeightsInput } from '../weights/bytes/bytes.js';
import type { LoadProgress } from '../weights/bytes/progress.js';
import type { InitScheme } from '../weights/init.js';
import type { NamingScheme } from '../weights/naming.js';
import type { ExternalData } from '../weights/onnx/external.js';
import type { SaveOptions } from '../weights/write.js';

/*
 * Every option of the model, each described once. What can be chosen about the network itself, such as `numClasses`, is
 * in vgg.ts.
 */

/** The options of `VGGNet.create`. */
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

/** How weights are loaded, or drawn. */
export interface LoadOptions {
  /** Refuse a file that lacks a tensor, has one too many, or has one of another shape. Default true. */
  strict?: boolean | undefined;
  /** How parameters are drawn that no file provides. Default 'pytorch': by the layers' constructors, as in the lesson. */
  init?: InitScheme | undefined;
  /** Seeds the initial weights, and dropout: an integer from 0 to 2^32 − 1. Default 0. */
  seed?: number | undefined;
  /** A PyTorch checkpoint with several dicts of tensors: which one to load, such as `'ema'` or `'model.ema'`. */
  key?: string | undefined;
  /**
   * For an ONNX model whose values are in a file beside it: that file, or each by its relative path. Default: the file
   * in the model's folder, if the model is a file.
   */
  externalData?: ExternalData | undefined;
  /** Verify the checksums of all values of a PyTorch checkpoint in the zip format. Default false. */
  verify?: boolean | undefined;
  /** Aborts the load. */
  signal?: AbortSignal | undefined;
  /** Reports the bytes read. */
  onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/** How images become the network's input, and what its classes are called. */
export interface ImageOptions {
  /** Class names, one for each class. Default: the file's, or ImageNet's for 1000 classes. */
  labels?: readonly string[] | undefined;
  /** Default: the file's, or torchvision's. */
  preset?: ImagePreset | undefined;
}

/** The devices that a model can be asked to run on. */
export type DeviceName = 'auto' | 'wasm' | 'webgpu' | 'reference';

/** Where and how a model runs. */
export interface DeviceOptions {
  /**
   * Default 'auto': WebGPU where a GPU answers, and WebAssembly otherwise; `model.device` says which and why. Any other
   * device that is not available is an error, never replaced by another.
   */
  device?: DeviceName | undefined;
  /** Run a forward on the caller's own thread, not in a worker. Default: only where there are no workers. */
  inline?: boolean | undefined;
  /**
   * Use the kernels whose results are the same to the bit on every machine, and the package's own decoders for JPEG, PNG
   * and WebP; somewhat slower. Default false.
   */
  deterministic?: boolean | undefined;
  /** Threads that compute, 1 to 256. Default 'auto': one per core, up to 16; one where memory can't be shared. */
  threads?: Threads | undefined;
  /** Use Winograd's method for convolutions where it is faster; `summary()` says what it costs. Default true. */
  winograd?: boolean | undefined;
  /**
   * WebAssembly: the most bytes that the memory of weights and activations may have. Where that is short, the model
   * trades speed for memory. Default: what WebAssembly allows, 4 GiB.
   */
  memoryLimit?: number | undefined;
  /**
   * WebGPU: compute on this device instead of one of the model's own. It stays the caller's: `dispose()` leaves it
   * alive, and when it is lost the model is too.
   */
  gpuDevice?: GPUDevice | undefined;
}

/**
 * One for all layers, or by `default`, by kind (`conv`, `fc`) and by layer (`conv3_1`, `fc6`, `features.0`); the most
 * specific one counts. Convolutions have no int4: `'int4'` for all is int8 for them.
 */
export type PrecisionOption = Precision | Readonly<Record<string, Precision>>;

/** How weights are stored in memory. */
export interface PrecisionOptions {
  /**
   * 'fp32'; 'fp16', in half the memory; 'int8' with a scale for each output channel; 'int4' with one for each 32 inputs
   * of a linear layer (convolutions are int8 then). One for all, or by layer: `{ conv: 'int8', fc: 'int4' }`.
   * Default: the file's, or 'fp32'.
   */
  precision?: PrecisionOption | undefined;
  /**
   * int8 only: by convolution, the value that inputs are clipped to, as `calibrate` returns them. Default: the file's,
   * or each image's own largest.
   */
  inputRanges?: Readonly<Record<string, number>> | undefined;
}

/** The options of one forward. */
export interface ForwardOptions {
  /** Aborts the forward within one layer; the model stays usable. */
  signal?: AbortSignal | undefined;
}

/** WebGPU: results stay on the GPU, each in a buffer that becomes the caller's. */
export interface OnGPU extends ForwardOptions {
  output: 'gpu';
}

/** The options of `VGGNet.classify`. */
export interface ClassifyOptions extends ForwardOptions {
  /** How many classes to return, best first. Default 5, or all if there are fewer. */
  topK?: number | undefined;
}

/** The options of `VGGNet.stateDict`. */
export interface StateOptions {
  /** Whose names the tensors get. Default 'torchvision'. */
  naming?: NamingScheme | undefined;
}

/** The options of `VGGNet.save`. */
export interface SaveModelOptions extends SaveOptions, StateOptions {}

/** Which gradients a model has. */
export interface GradientOptions {
  /**
   * Makes `record` available. True: every learned parameter gets a gradient; a function: those for whose torchvision name
   * it returns true, which may be none, for gradients of inputs and layers alone. Default false: nothing is kept for a
   * backward pass.
   */
  gradients?: boolean | ((parameter: string) => boolean) | undefined;
  /**
   * Batch norms that use and keep their running statistics in train mode too: all, or those for whose torchvision path,
   * such as 'features.1', a function returns true. Default false. Their weights and biases are trained if `gradients`
   * says so.
   */
  frozenBatchNorm?: boolean | ((path: string) => boolean) | undefined;
}

/** What a backward pass gives. */
export interface BackwardOptions<Wrt extends string = string> extends ForwardOptions {
  /** What to give the gradients of: 'input', or layers by any of their names. Default none. */
  wrt?: readonly Wrt[] | undefined;
  /** 'guided' lets a ReLU pass on only what is positive, as guided backpropagation does. Default 'standard'. */
  reluRule?: ReluRule | undefined;
}
