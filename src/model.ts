import { abortable } from './abort.js';
import type { Backend, DeviceInfo, Executable, GPUExecutable, RunOptions } from './backend.js';
import { throwIfAborted, VGGNetError } from './errors.js';
import type { PretrainedSet } from './hub/catalog.js';
import type { PretrainedOptions } from './hub/pretrained.js';
import { isDrawable } from './image/canvas.js';
import type { ImageInput } from './image/decode.js';
import { loadImageNetLabels } from './image/labels.js';
import { imageToTensor } from './image/preprocess.js';
import { type Prediction, topClasses } from './model/classify.js';
import { type Architecture, resolveConfig, type VGGConfig } from './model/config.js';
import { createBackend } from './model/device.js';
import {
  compileModel,
  configOf,
  type IncompatibleKeys,
  type Loaded,
  type LoadOptions,
  usualShape,
  withImageOptions,
  withStored,
} from './model/load.js';
import type { ClassifyOptions, CreateOptions, ForwardOptions, OnGPU, Profile } from './model/options.js';
import { readState, type StateEntry, saveState, stateEntries } from './model/state.js';
import { learned, type ModelSummary, summarize } from './model/summary.js';
import { glyphsWeights } from './platform/embedded.js';
import { lowbias32 } from './program/dropout.js';
import { createLayers, type Layer, parametersOf } from './program/layers.js';
import { layerNamed } from './program/names.js';
import type { PrecisionOptions } from './program/precision.js';
import { inferShapes } from './program/shape.js';
import { checkSeed } from './random.js';
import { assertAttached, formatShape, Tensor } from './tensor.js';
import { GPUTensor } from './webgpu/tensor.js';
import type { WeightsInput } from './weights/bytes/bytes.js';
import type { NamingScheme } from './weights/naming.js';
import { openWeights } from './weights/open.js';
import { reopener } from './weights/reopen.js';
import type { WeightSource } from './weights/source.js';
import type { SaveOptions } from './weights/write.js';

/** A VGG network with its weights, on a device. */
export class VGGNet {
  /** Everything that defines the network but its weights. */
  readonly config: VGGConfig;
  readonly #backend: Backend;
  readonly #layers: readonly Layer[];
  readonly #seed: number;
  readonly #retired = new Set<Executable>();
  /** Settles, and never rejects, when all loads asked for so far are done. */
  #lastLoad: Promise<unknown> = Promise.resolve();
  #loaded: Loaded;
  #training = false;
  #trainRuns = 0;
  readonly #deterministic: boolean | undefined;
  #disposed = false;

  private constructor(
    config: VGGConfig,
    backend: Backend,
    layers: readonly Layer[],
    loaded: Loaded,
    { seed = 0, deterministic }: CreateOptions,
  ) {
    this.config = config;
    this.#backend = backend;
    this.#layers = layers;
    this.#loaded = loaded;
    this.#seed = seed;
    this.#deterministic = deterministic;
  }

  /**
   * Builds a network by name (`'vgg16'`, `'vgg16_bn'`, …) or from a list such as `[64, 'M', 128, 'M']`.
   * `'glyphs'` is the small embedded model, which brings its own weights.
   * @throws VGGNetError `UNKNOWN_MODEL`, `INVALID_ARCHITECTURE`, `INVALID_ARGUMENT`, `BACKEND_UNAVAILABLE`,
   * `OUT_OF_MEMORY`, `INVALID_WEIGHTS_FILE`, `WEIGHTS_MISMATCH`, `INVALID_DTYPE`, `IO`, `ABORTED`
   */
  static async create(model: string | Architecture, options: CreateOptions = {}): Promise<VGGNet> {
    if (typeof model === 'string' && model.toLowerCase() === 'glyphs') {
      return VGGNet.load(options.weights ?? glyphsWeights(), options);
    }
    throwIfAborted(options.signal);
    const config = resolveConfig(model, options);
    const source = options.weights === undefined ? undefined : await openWeights(options.weights, options);
    try {
      return await VGGNet.#build(config, source, options);
    } finally {
      await source?.close();
    }
  }

  /**
   * Builds the network that a weights file describes: by its metadata, as `save` writes it, or else by the names and
   * shapes of its tensors. Options given here go before the file's.
   * @throws VGGNetError as `create`
   */
  static async load(weights: WeightsInput, options: Omit<CreateOptions, 'weights'> = {}): Promise<VGGNet> {
    throwIfAborted(options.signal);
    const source = await openWeights(weights, options);
    try {
      return await VGGNet.#build(await configOf(source, options), source, { ...options, weights });
    } finally {
      await source.close();
    }
  }

  /**
   * Builds a network with its official weights: `'vgg16'`, or `'vgg16#IMAGENET1K_FEATURES'` for features alone; or
   * with those of a record of one's own. The file is downloaded once, checked, and kept in a cache. Everything about
   * the sets is in `PRETRAINED`.
   * @throws VGGNetError as `create`; `CHECKSUM_MISMATCH` for a file that is not the published one
   */
  static async fromPretrained(name: string | PretrainedSet, options: PretrainedOptions = {}): Promise<VGGNet> {
    throwIfAborted(options.signal);
    const { describePretrained } = await import('./hub/pretrained.js');
    const { config, layersOf, fetch, select, onLoad } = describePretrained(name, options);
    const all = { ...options, onProgress: onLoad };
    const open = async (): Promise<WeightSource> => select(await openWeights(await fetch(), all));
    return VGGNet.#build(config, open, all, layersOf);
  }

  /** @param source opened only when the options were found good, if it is a function */
  static async #build(
    base: VGGConfig,
    source: WeightSource | undefined | (() => Promise<WeightSource>),
    options: CreateOptions,
    layersOf: (config: VGGConfig) => Layer[] = createLayers,
  ): Promise<VGGNet> {
    const config = withImageOptions(base, options);
    checkSeed(options.seed ?? 0);
    const backend = await createBackend(options);
    const plain = layersOf(config);
    const { weights } = options;
    const withOptions = await precisionsOf(options);
    // A wrong one shows before anything is opened.
    withOptions(plain);
    const opened = typeof source === 'function' ? await source() : source;
    const layers = withOptions(withStored(plain, opened));
    const reopen = typeof source === 'function' ? source : weights === undefined ? undefined : reopener(weights);
    const loaded = await compileModel(backend, config, layers, opened, options, reopen);
    return new VGGNet(config, backend, layers, loaded, options);
  }

  /** Where the model runs, and why there. */
  get device(): DeviceInfo {
    return this.#backend.device;
  }

  /** The layers in order, as `features` names them. */
  get layers(): readonly Layer[] {
    return this.#layers;
  }

  /** The number of learned values. */
  get parameters(): number {
    return this.#layers.reduce((total, layer) => total + learned(layer), 0);
  }

  /** What the last load left out or filled in; only `strict: false` allows either. */
  get incompatibleKeys(): IncompatibleKeys {
    return this.#loaded.keys;
  }

  /** True in train mode. */
  get training(): boolean {
    return this.#training;
  }

  /**
   * Train mode: dropout drops, and batch norm uses the batch's statistics and updates the running ones by them.
   * Returns the model, as in PyTorch.
   */
  train(mode = true): this {
    this.#training = mode;
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
  async forward(input: Tensor | GPUTensor, options: ForwardOptions & OnGPU): Promise<GPUTensor>;
  async forward(input: Tensor | GPUTensor, options?: ForwardOptions): Promise<Tensor>;
  async forward(input: Tensor | GPUTensor, options: ForwardOptions & Partial<OnGPU> = {}): Promise<Tensor | GPUTensor> {
    const [logits] = await this.#run(input, ['fc8'], options);
    return logits as Tensor | GPUTensor;
  }

  /**
   * WebGPU: the device that the model is on, for buffers of one's own. When it is lost, the next forward makes another.
   * @throws VGGNetError `BACKEND_UNAVAILABLE` on another backend; `DISPOSED`, `DEVICE_LOST`
   */
  async gpuDevice(): Promise<GPUDevice> {
    this.#checkLive();
    return this.#gpu().device();
  }

  #gpu(): GPUExecutable {
    const { gpu } = this.#loaded.executable;
    if (gpu) return gpu;
    throw new VGGNetError(
      'BACKEND_UNAVAILABLE',
      `This model runs on ${this.device.backend}; tensors on the GPU need one with device: 'webgpu'`,
    );
  }

  /**
   * The outputs of layers, (N, C, H, W) or (N, F), by the names asked for: a paper's (`relu3_3`, `pool5`, `fc7`,
   * `prob`) or a module's (`features.16`, `classifier.3`). Layers after the last of them are not run.
   * @throws VGGNetError `UNKNOWN_LAYER`, and as `forward`
   */
  async features<Name extends string>(
    input: Tensor | GPUTensor,
    names: readonly Name[],
    options: ForwardOptions & OnGPU,
  ): Promise<Record<Name, GPUTensor>>;
  async features<Name extends string>(
    input: Tensor | GPUTensor,
    names: readonly Name[],
    options?: ForwardOptions,
  ): Promise<Record<Name, Tensor>>;
  async features<Name extends string>(
    input: Tensor | GPUTensor,
    names: readonly Name[],
    options: ForwardOptions & Partial<OnGPU> = {},
  ): Promise<Record<Name, Tensor | GPUTensor>> {
    this.#checkLive();
    if (!Array.isArray(names) || names.length === 0) {
      throw new VGGNetError('INVALID_ARGUMENT', "features needs a list of layer names, such as ['relu3_3']");
    }
    const layers = names.map((name) => layerNamed(this.#layers, name).name);
    const outputs = await this.#run(input, layers, options);
    // Names of one layer get a tensor each.
    const own = layers.map((layer, i) => {
      const output = outputs[i] as Tensor | GPUTensor;
      if (output instanceof GPUTensor || layers.indexOf(layer) === i) return output;
      return new Tensor(output.data.slice(), output.shape);
    });
    return Object.fromEntries(names.map((name, i) => [name, own[i]])) as Record<Name, Tensor | GPUTensor>;
  }

  /**
   * Runs a forward, and gives what each step took: a layer with those fused into it, such as `conv1_1+relu1_1`.
   * @throws VGGNetError as `forward`
   */
  async profile(input: Tensor, options: ForwardOptions = {}): Promise<Profile> {
    const run = this.#prepare(input, ['fc8'], options);
    const steps = await abortable(this.#loaded.executable.profile(input, run), options.signal);
    const macs = new Map(this.summary(input.shape).layers.map((layer) => [layer.name, layer.macs]));
    const layers = steps.map((step) => ({ ...step, macs: macs.get(step.name.split('+')[0] as string) ?? 0 }));
    return { layers, totalMs: layers.reduce((total, layer) => total + layer.ms, 0) };
  }

  /**
   * For each convolution after the first, how large its inputs become in some forwards, but for one in 10,000: what
   * `inputRanges` takes.
   * @param inputs as `forward` takes them, such as images that `preprocess` made
   * @throws VGGNetError as `forward`
   */
  async calibrate(
    inputs: Iterable<Tensor> | AsyncIterable<Tensor>,
    options: ForwardOptions = {},
  ): Promise<Record<string, number>> {
    const { calibrate } = await import('./model/calibrate.js');
    return calibrate(this.#layers, inputs, (tensor, names) => this.features(tensor, names, options));
  }

  /**
   * The most likely classes of an image, best first; of a list of images, a list of them.
   * @param image file path, URL, bytes, Blob, Response, ImageData, raw pixels or a drawable; or a preprocessed Tensor
   * (1, C, H, W). It is copied before the call returns; those of a list are read one after another, so leave them as
   * they are until then.
   * @throws VGGNetError `INVALID_IMAGE`, `IMAGE_TOO_LARGE`, `MISSING_PEER`, `IO`, and as `forward`
   */
  async classify(image: ImageInput | Tensor, options?: ClassifyOptions): Promise<Prediction[]>;
  async classify(images: readonly (ImageInput | Tensor)[], options?: ClassifyOptions): Promise<Prediction[][]>;
  async classify(
    image: ImageInput | Tensor | readonly (ImageInput | Tensor)[],
    options: ClassifyOptions = {},
  ): Promise<Prediction[] | Prediction[][]> {
    this.#checkLive();
    this.#indexOf('prob');
    const { numClasses } = this.config;
    const { topK = Math.min(5, numClasses) } = options;
    if (!Number.isInteger(topK) || topK < 1 || topK > numClasses) {
      throw new VGGNetError('INVALID_ARGUMENT', `topK must be an integer from 1 to ${numClasses}, got ${String(topK)}`);
    }
    const images = Array.isArray(image) ? (image as readonly (ImageInput | Tensor)[]) : [image as ImageInput | Tensor];
    const results: Prediction[][] = [];
    for (const one of images) {
      const { data } = await this.#probabilities(one, options);
      results.push(topClasses(data, topK, await this.labels()));
    }
    return Array.isArray(image) ? results : (results[0] as Prediction[]);
  }

  async #probabilities(image: ImageInput | Tensor, options: ForwardOptions): Promise<Tensor> {
    const input = image instanceof Tensor ? image : await this.preprocess(image, options);
    if (input.shape[0] !== 1) {
      throw new VGGNetError(
        'INVALID_SHAPE',
        `classify expects one image, (1, C, H, W), got ${formatShape(input.shape)}`,
      );
    }
    const [probabilities] = await this.#run(input, ['prob'], options);
    return probabilities as Tensor;
  }

  /**
   * An image as this network's input (1, C, H, W), by its preset.
   * @throws VGGNetError `INVALID_IMAGE`, `IMAGE_TOO_LARGE`, `MISSING_PEER`, `IO`, `ABORTED`, `DISPOSED`
   */
  async preprocess(image: ImageInput, options: ForwardOptions & OnGPU): Promise<GPUTensor>;
  async preprocess(image: ImageInput, options?: ForwardOptions): Promise<Tensor>;
  async preprocess(image: ImageInput, options: ForwardOptions & Partial<OnGPU> = {}): Promise<Tensor | GPUTensor> {
    this.#checkLive();
    const { preset, inChannels } = this.config;
    if (!preset) {
      throw new VGGNetError(
        'INVALID_ARGUMENT',
        `An image has 1 or 3 channels and this network takes ${inChannels}: make the input tensor yourself`,
      );
    }
    const { signal } = options;
    const decoding = { signal, deterministic: this.#deterministic };
    if (checkPlace(options.output) === 'cpu') return imageToTensor(image, preset, decoding);
    const gpu = this.#gpu();
    // What the platform has decoded goes to the GPU as it is, and the same shader's arithmetic gives the same bits.
    if (isDrawable(image)) return abortable(gpu.picture(image, preset), signal);
    return gpu.upload(await imageToTensor(image, preset, decoding));
  }

  /** The class names: the model's own, ImageNet's for 1000 classes, or 'class 0', 'class 1', …. */
  async labels(): Promise<readonly string[]> {
    const { labels, numClasses } = this.config;
    if (labels) return labels;
    return numClasses === 1000 ? loadImageNetLabels() : Array.from({ length: numClasses }, (_, i) => `class ${i}`);
  }

  /**
   * Layers, output shapes, parameters, multiply-accumulates and memory; prints as a table.
   * @param inputShape default one image of the preset's size, or of the least size that the pools allow
   * @throws VGGNetError `INVALID_SHAPE`
   */
  summary(inputShape?: readonly number[]): ModelSummary {
    const usual = usualShape(this.config, this.#layers);
    const transformed = this.#backend.transformedBytes?.({ layers: this.#layers, inputShape: usual });
    return summarize(this.config, this.#layers, inputShape ?? usual, transformed);
  }

  /**
   * All parameters and running statistics by name, as copies.
   * @param options.naming whose names: default torchvision's
   */
  async stateDict(options: { naming?: NamingScheme | undefined } = {}): Promise<Map<string, Tensor>> {
    return readState(this.#stateEntries(options.naming));
  }

  /**
   * The model as a safetensors file, in a stream that holds one tensor at a time. Its metadata describes the network,
   * so that `VGGNet.load` needs nothing else.
   */
  save(options: SaveOptions & { naming?: NamingScheme | undefined } = {}): ReadableStream<Uint8Array> {
    return saveState(this.#stateEntries(options.naming), this.config, options);
  }

  /**
   * Replaces the weights, and returns to eval mode. On any error the model is unchanged. Until the new weights are
   * complete the old ones stay, so memory for both is needed; a forward that began with the old ones ends with them.
   * Loads that overlap are done one after another.
   * @throws VGGNetError `INVALID_WEIGHTS_FILE`, `WEIGHTS_MISMATCH`, `INVALID_DTYPE`, `OUT_OF_MEMORY`, `IO`, `ABORTED`
   */
  loadWeights(weights: WeightsInput, options: LoadOptions = {}): Promise<IncompatibleKeys> {
    const loading = this.#lastLoad.then(() => this.#replace(weights, options));
    this.#lastLoad = loading.catch(() => undefined);
    return loading;
  }

  async #replace(weights: WeightsInput, options: LoadOptions): Promise<IncompatibleKeys> {
    this.#checkLive();
    checkSeed(options.seed ?? 0);
    const source = await openWeights(weights, options);
    const seed = options.seed ?? this.#seed;
    const all = { ...options, seed };
    const loaded = await compileModel(this.#backend, this.config, this.#layers, source, all, reopener(weights));
    if (this.#disposed) {
      loaded.executable.dispose();
      this.#checkLive();
    }
    const { executable } = this.#loaded;
    this.#loaded = loaded;
    this.eval();
    await this.#retire(executable);
    return loaded.keys;
  }

  /** Lets old weights go once the forwards that began with them are done: a read waits for those before it. */
  async #retire(executable: Executable): Promise<void> {
    this.#retired.add(executable);
    const [any] = this.#layers.flatMap(parametersOf);
    if (any) await executable.readParameter(any.name).catch(() => undefined);
    executable.dispose();
    this.#retired.delete(executable);
  }

  /** Frees the weights and the worker. A call in progress rejects with `DISPOSED`. May be called twice. */
  dispose(): void {
    this.#disposed = true;
    for (const executable of [this.#loaded.executable, ...this.#retired]) executable.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
  }

  async #run(
    input: Tensor | GPUTensor,
    outputs: readonly string[],
    options: ForwardOptions & Partial<OnGPU>,
  ): Promise<(Tensor | GPUTensor)[]> {
    const place = checkPlace(options.output);
    const run = this.#prepare(input, outputs, options);
    if (place === 'gpu' || input instanceof GPUTensor) {
      return abortable(this.#gpu().runOn(input, run, place), options.signal);
    }
    // A forward that waits for its turn is not told of the signal before then, but its caller is.
    return abortable(this.#loaded.executable.run(input, run), options.signal);
  }

  /** Checks an input, and says how it is to be run. */
  #prepare(input: Tensor | GPUTensor, outputs: readonly string[], { signal }: ForwardOptions): RunOptions {
    this.#checkLive();
    throwIfAborted(signal);
    if (!(input instanceof Tensor || input instanceof GPUTensor)) {
      throw new VGGNetError('INVALID_ARGUMENT', `Expected a Tensor, got ${input === null ? 'null' : typeof input}`);
    }
    if (input instanceof Tensor) assertAttached(input);
    const last = Math.max(...outputs.map((name) => this.#indexOf(name)));
    inferShapes(this.#layers.slice(0, last + 1), input.shape);
    const mode = this.#training ? 'train' : 'eval';
    // Every forward in train mode drops other values, and no two models of near seeds ever the same.
    const seed = this.#training ? lowbias32(lowbias32(this.#seed) + this.#trainRuns++) : 0;
    return { outputs, mode, seed, signal };
  }

  #indexOf(name: string): number {
    const index = this.#layers.findIndex((layer) => layer.name === name);
    if (index >= 0) return index;
    throw new VGGNetError(
      'UNKNOWN_LAYER',
      `This model cannot classify: its weights have no classifier, and its last layer is ${this.#layers.at(-1)?.name}. ` +
        'Ask for its layers by features()',
    );
  }

  #stateEntries(naming: NamingScheme | undefined): StateEntry[] {
    this.#checkLive();
    return stateEntries(this.#layers, this.#loaded.executable, this.config.poolSize, naming);
  }

  #checkLive(): void {
    if (this.#disposed) throw new VGGNetError('DISPOSED', 'This model was disposed of');
  }
}

/** Gives layers what is asked for, by code that is loaded if anything is. */
async function precisionsOf(options: PrecisionOptions): Promise<(layers: readonly Layer[]) => readonly Layer[]> {
  if (options.precision === undefined && options.inputRanges === undefined) return (layers) => layers;
  const { withOptions } = await import('./program/precision.js');
  return (layers) => withOptions(layers, options);
}

/** Where results go. */
function checkPlace(output: unknown): 'cpu' | 'gpu' {
  if (output === undefined || output === 'gpu') return output ?? 'cpu';
  throw new VGGNetError('INVALID_ARGUMENT', `output must be 'gpu' or left out, got ${JSON.stringify(output)}`);
}
