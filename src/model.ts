import type { DeviceInfo } from './backend.js';
import { throwIfAborted } from './errors.js';
import type { GPUTensor } from './gpu-tensor.js';
import type { PretrainedSet } from './hub/catalog.js';
import type { PretrainedOptions } from './hub/pretrained.js';
import type { ImageInput } from './image/decode.js';
import { classify, labelsOf } from './model/classify.js';
import { createNetwork, loadNetwork, openNetwork } from './model/create.js';
import { features } from './model/features.js';
import type { IncompatibleKeys } from './model/load.js';
import type { AnyTensor, Network } from './model/network.js';
import type {
  ClassifyOptions,
  CreateOptions,
  ForwardOptions,
  LoadOptions,
  OnGPU,
  SaveModelOptions,
  StateOptions,
} from './model/options.js';
import type { Prediction } from './model/predictions.js';
import { preprocess } from './model/preprocess.js';
import type { Tape } from './model/record.js';
import { readState, saveState, stateEntries } from './model/state.js';
import { countLearned, type ModelSummary, type Profile, profileOf, summaryOf } from './model/summary.js';
import type { Layer } from './program/layers.js';
import type { Tensor } from './tensor.js';
import type { Architecture, VGGConfig } from './vgg.js';
import type { WeightsInput } from './weights/bytes/bytes.js';

/** A VGG network with its weights, on a device. */
export class VGGNet {
  readonly #network: Network;

  private constructor(network: Network) {
    this.#network = network;
  }

  /**
   * Builds a network by name (`'vgg16'`, `'vgg16_bn'`, …) or from a list such as `[64, 'M', 128, 'M']`. `'glyphs'` is the
   * small embedded model, which brings its own weights.
   * @throws VGGNetError `UNKNOWN_MODEL`, `INVALID_ARCHITECTURE`, `INVALID_ARGUMENT`, `BACKEND_UNAVAILABLE`,
   * `OUT_OF_MEMORY`, `INVALID_WEIGHTS_FILE`, `WEIGHTS_MISMATCH`, `INVALID_DTYPE`, `IO`, `ABORTED`
   */
  static async create(model: string | Architecture, options: CreateOptions = {}): Promise<VGGNet> {
    return new VGGNet(await createNetwork(model, options));
  }

  /**
   * Builds the network that a weights file describes: by its metadata, as `save` writes it, or else by the names and
   * shapes of its tensors. Options override the file.
   * @throws VGGNetError as `create`
   */
  static async load(weights: WeightsInput, options: Omit<CreateOptions, 'weights'> = {}): Promise<VGGNet> {
    return new VGGNet(await loadNetwork(weights, options));
  }

  /**
   * Builds a network with its official weights: `'vgg16'`, or `'vgg16#IMAGENET1K_FEATURES'` for features alone; or with
   * those of your own record. The file is downloaded once, checked, and kept in a cache. `PRETRAINED` lists the sets.
   * @throws VGGNetError as `create`; `CHECKSUM_MISMATCH` for a file that is not the published one
   */
  static async fromPretrained(name: string | PretrainedSet, options: PretrainedOptions = {}): Promise<VGGNet> {
    throwIfAborted(options.signal);
    const { describePretrained } = await import('./hub/pretrained.js');
    const { config, layersOf, open, onLoad } = describePretrained(name, options);
    return new VGGNet(await openNetwork(config, layersOf, open, { ...options, onProgress: onLoad }));
  }

  /** Everything that defines the network but its weights. */
  get config(): VGGConfig {
    return this.#network.config;
  }

  /** Where the model runs, and why there. */
  get device(): DeviceInfo {
    return this.#network.backend.device;
  }

  /** The layers in order, as `features` names them. */
  get layers(): readonly Layer[] {
    return this.#network.layers;
  }

  /** The number of learned values. */
  get parameters(): number {
    return countLearned(...this.layers);
  }

  /** What the last load left out or filled in; only `strict: false` allows either. */
  get incompatibleKeys(): IncompatibleKeys {
    return this.#network.incompatibleKeys;
  }

  /** True in train mode. */
  get training(): boolean {
    return this.#network.training;
  }

  /** Train mode: dropout drops; batch norm uses the batch's statistics, and updates the running ones. */
  train(mode = true): this {
    this.#network.training = mode;
    return this;
  }

  /** Eval mode, in which a model starts. */
  eval(): this {
    return this.train(false);
  }

  /**
   * The logits (N, numClasses) of an input (N, inChannels, H, W), float32. H and W are at least 2^(number of 'M').
   * @throws VGGNetError `INVALID_SHAPE`, `INVALID_ARGUMENT`, `ABORTED`, `DISPOSED`, `OUT_OF_MEMORY`, `WORKER_CRASHED`
   */
  async forward(input: AnyTensor, options: OnGPU): Promise<GPUTensor>;
  async forward(input: AnyTensor, options?: ForwardOptions): Promise<Tensor>;
  async forward(input: AnyTensor, options: Partial<OnGPU> = {}): Promise<AnyTensor> {
    return (await this.#network.run(input, ['logits'], options))[0] as AnyTensor;
  }

  /**
   * The outputs of layers, (N, C, H, W) or (N, F), by the names asked for: a paper's (`relu3_3`, `pool5`, `fc7`,
   * `prob`), a module's (`features.16`, `classifier.3`), or `logits`. Layers after the last of them are not run.
   * @throws VGGNetError `UNKNOWN_LAYER`, and as `forward`
   */
  features<N extends string>(input: AnyTensor, names: readonly N[], options: OnGPU): Promise<Record<N, GPUTensor>>;
  features<N extends string>(
    input: AnyTensor,
    names: readonly N[],
    options?: ForwardOptions,
  ): Promise<Record<N, Tensor>>;
  features<N extends string>(
    input: AnyTensor,
    names: readonly N[],
    options: Partial<OnGPU> = {},
  ): Promise<Record<N, AnyTensor>> {
    return features(this.#network, input, names, options);
  }

  /**
   * The most likely classes of an image, best first; of a list of images, a list of them.
   * @param image file path, URL, bytes, Blob, Response, ImageData, raw pixels or a drawable; or a preprocessed Tensor
   * (1, C, H, W). It is copied before the call returns; images of a list are read one after another, later.
   * @throws VGGNetError `INVALID_IMAGE`, `IMAGE_TOO_LARGE`, `MISSING_PEER`, `IO`, and as `forward`
   */
  classify(image: ImageInput | Tensor, options?: ClassifyOptions): Promise<Prediction[]>;
  classify(images: readonly (ImageInput | Tensor)[], options?: ClassifyOptions): Promise<Prediction[][]>;
  classify(
    image: ImageInput | Tensor | readonly (ImageInput | Tensor)[],
    options: ClassifyOptions = {},
  ): Promise<Prediction[] | Prediction[][]> {
    return classify(this.#network, image, options);
  }

  /**
   * An image as this network's input (1, C, H, W), by its preset.
   * @throws VGGNetError `INVALID_IMAGE`, `IMAGE_TOO_LARGE`, `MISSING_PEER`, `IO`, `ABORTED`, `DISPOSED`
   */
  preprocess(image: ImageInput, options: OnGPU): Promise<GPUTensor>;
  preprocess(image: ImageInput, options?: ForwardOptions): Promise<Tensor>;
  preprocess(image: ImageInput, options: Partial<OnGPU> = {}): Promise<AnyTensor> {
    return preprocess(this.#network, image, options);
  }

  /** The class names: the model's own, ImageNet's for 1000 classes, or 'class 0', 'class 1', …. */
  labels(): Promise<readonly string[]> {
    return labelsOf(this.config);
  }

  /**
   * Layers, output shapes, parameters, multiply-accumulates and memory; prints as a table.
   * @param inputShape default one image of the usual size
   * @throws VGGNetError `INVALID_SHAPE`
   */
  summary(inputShape?: readonly number[]): ModelSummary {
    return summaryOf(this.#network, inputShape);
  }

  /**
   * A forward in the model's mode that keeps what a backward pass needs, for a model that was made with `gradients`.
   * There is one tape at a time: any other run of the model drops it.
   * @param names the layers whose outputs the tape has, and for which `backward` takes cotangents, as `features` takes
   * them
   * @throws VGGNetError `NOT_TRAINABLE` for a model made without gradients; and as `features`
   */
  record<N extends string>(input: Tensor, names: readonly N[], options: ForwardOptions = {}): Promise<Tape<N>> {
    return this.#network.record(input, names, options);
  }

  /**
   * The gradients of the parameters, by name as in `stateDict`: the sums over all backward passes since `zeroGrad`.
   * @throws VGGNetError `NOT_TRAINABLE` for a model made without gradients, `NO_GRADIENTS` if no parameter gets any
   */
  async gradients(options: StateOptions = {}): Promise<Map<string, Tensor>> {
    const { gradients, autograd } = this.#network.autograd;
    return gradients.read(autograd, this.config.poolSize, options);
  }

  /**
   * Clears the gradients of all parameters.
   * @throws VGGNetError `NOT_TRAINABLE` for a model made without gradients
   */
  async zeroGrad(): Promise<void> {
    await this.#network.autograd.autograd.zeroGradients();
  }

  /**
   * Runs a forward, and returns the time of each step: a layer with those fused into it, such as `conv1_1+relu1_1`.
   * @throws VGGNetError as `forward`
   */
  async profile(input: Tensor, options: ForwardOptions = {}): Promise<Profile> {
    return profileOf(await this.#network.profile(input, 'logits', options), this.summary(input.shape));
  }

  /**
   * For each convolution after the first, the range of all but one in 10,000 of its inputs, as `inputRanges` takes it.
   * @throws VGGNetError as `forward`
   */
  async calibrate(
    inputs: Iterable<Tensor> | AsyncIterable<Tensor>,
    options: ForwardOptions = {},
  ): Promise<Record<string, number>> {
    const { calibrate } = await import('./model/calibrate.js');
    return calibrate(this.layers, inputs, (tensor, names) => this.features(tensor, names, options));
  }

  /** All parameters and running statistics by name, as copies. */
  async stateDict(options: StateOptions = {}): Promise<Map<string, Tensor>> {
    return readState(stateEntries(this.#network, options.naming));
  }

  /** The model as a safetensors file, streamed tensor by tensor; its metadata is all that `VGGNet.load` needs. */
  save(options: SaveModelOptions = {}): ReadableStream<Uint8Array> {
    return saveState(stateEntries(this.#network, options.naming), this.config, options);
  }

  /**
   * Replaces the weights, and returns to eval mode; on any error the model is unchanged. Until the new weights are
   * complete the old ones stay, so memory for both is needed, and forwards that began with them end with them.
   * @throws VGGNetError `INVALID_WEIGHTS_FILE`, `WEIGHTS_MISMATCH`, `INVALID_DTYPE`, `OUT_OF_MEMORY`, `IO`, `ABORTED`
   */
  loadWeights(weights: WeightsInput, options: LoadOptions = {}): Promise<IncompatibleKeys> {
    return this.#network.replace(weights, options);
  }

  /**
   * WebGPU: the device that the model is on, for your own buffers. When it is lost, the next forward requests another.
   * @throws VGGNetError `BACKEND_UNAVAILABLE` on another backend; `DISPOSED`, `DEVICE_LOST`
   */
  async gpuDevice(): Promise<GPUDevice> {
    return this.#network.gpu.device();
  }

  /** Frees the weights and the worker. Calls in progress reject with `DISPOSED`. May be called twice. */
  dispose(): void {
    this.#network.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
  }
}

/** Builds one network of the family; the options are those of `VGGNet.create`. */
export type Builder = (options?: CreateOptions) => Promise<VGGNet>;

export const vgg11: Builder = (options) => VGGNet.create('vgg11', options);
export const vgg11_bn: Builder = (options) => VGGNet.create('vgg11_bn', options);
export const vgg13: Builder = (options) => VGGNet.create('vgg13', options);
export const vgg13_bn: Builder = (options) => VGGNet.create('vgg13_bn', options);
export const vgg16: Builder = (options) => VGGNet.create('vgg16', options);
export const vgg16_bn: Builder = (options) => VGGNet.create('vgg16_bn', options);
export const vgg19: Builder = (options) => VGGNet.create('vgg19', options);
export const vgg19_bn: Builder = (options) => VGGNet.create('vgg19_bn', options);
