import type { Backend, DeviceInfo, Executable, RunOptions, StepTime } from './backend.js';
import { type Prediction, topClasses } from './classes.js';
import { type Architecture, type ModelOptions, resolveConfig, type VGGConfig } from './config.js';
import { createBackend, type DeviceOptions } from './device.js';
import { lowbias32 } from './dropout.js';
import { throwIfAborted, VGGNetError } from './errors.js';
import type { ImageInput } from './image/decode.js';
import { loadImageNetLabels } from './image/labels.js';
import { imageToTensor } from './image/preprocess.js';
import { createLayers, type Layer, parametersOf } from './layers.js';
import {
  compileModel,
  configOf,
  type ImageOptions,
  type IncompatibleKeys,
  type Loaded,
  type LoadOptions,
  withImageOptions,
} from './load.js';
import { layerNamed } from './names.js';
import { checkSeed } from './random.js';
import { inferShapes, leastSide } from './shape.js';
import { learned, type ModelSummary, summarize } from './summary.js';
import { assertAttached, formatShape, Tensor } from './tensor.js';
import { abortable } from './weights/abort.js';
import type { WeightsInput } from './weights/bytes.js';
import { CONFIG_KEY, encodeConfig } from './weights/metadata.js';
import { checkScheme, type NamingScheme, rename, renamedShape } from './weights/naming.js';
import { openWeights } from './weights/safetensors.js';
import type { WeightSource } from './weights/source.js';
import { type SaveOptions, writeSafetensors } from './weights/write.js';

export interface CreateOptions extends ModelOptions, LoadOptions, ImageOptions, DeviceOptions {
  /** A safetensors file: path, URL, bytes, Blob, Response or stream. Without one the weights are random. */
  weights?: WeightsInput | undefined;
}

export interface ForwardOptions {
  /** Stops the forward within one layer; the model stays usable. */
  signal?: AbortSignal | undefined;
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
  #disposed = false;

  private constructor(config: VGGConfig, backend: Backend, layers: readonly Layer[], loaded: Loaded, seed: number) {
    this.config = config;
    this.#backend = backend;
    this.#layers = layers;
    this.#loaded = loaded;
    this.#seed = seed;
  }

  /**
   * Builds a network by name (`'vgg16'`, `'vgg16_bn'`, …) or from a list such as `[64, 'M', 128, 'M']`.
   * `'glyphs'` is the small embedded model, which brings its own weights.
   * @throws VGGNetError `UNKNOWN_MODEL`, `INVALID_ARCHITECTURE`, `INVALID_ARGUMENT`, `BACKEND_UNAVAILABLE`,
   * `OUT_OF_MEMORY`, `INVALID_WEIGHTS_FILE`, `WEIGHTS_MISMATCH`, `INVALID_DTYPE`, `IO`, `ABORTED`
   */
  static async create(model: string | Architecture, options: CreateOptions = {}): Promise<VGGNet> {
    if (typeof model === 'string' && model.toLowerCase() === 'glyphs') {
      const embedded = new URL('../models/glyphs.safetensors', import.meta.url);
      return VGGNet.load(options.weights ?? embedded, options);
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
      return await VGGNet.#build(configOf(source, options), source, options);
    } finally {
      await source.close();
    }
  }

  static async #build(base: VGGConfig, source: WeightSource | undefined, options: CreateOptions): Promise<VGGNet> {
    const config = withImageOptions(base, options);
    checkSeed(options.seed ?? 0);
    const backend = createBackend(options);
    const layers = createLayers(config);
    const loaded = await compileModel(backend, config, layers, source, options);
    return new VGGNet(config, backend, layers, loaded, options.seed ?? 0);
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
  async forward(input: Tensor, options: ForwardOptions = {}): Promise<Tensor> {
    const [logits] = await this.#run(input, ['fc8'], options);
    return logits as Tensor;
  }

  /**
   * The outputs of layers, (N, C, H, W) or (N, F), by the names asked for: a paper's (`relu3_3`, `pool5`, `fc7`,
   * `prob`) or a module's (`features.16`, `classifier.3`). Layers after the last of them are not run.
   * @throws VGGNetError `UNKNOWN_LAYER`, and as `forward`
   */
  async features<Name extends string>(
    input: Tensor,
    names: readonly Name[],
    options: ForwardOptions = {},
  ): Promise<Record<Name, Tensor>> {
    this.#checkLive();
    if (!Array.isArray(names) || names.length === 0) {
      throw new VGGNetError('INVALID_ARGUMENT', "features needs a list of layer names, such as ['relu3_3']");
    }
    const layers = names.map((name) => layerNamed(this.#layers, name).name);
    const outputs = await this.#run(input, layers, options);
    // Names of one layer get a tensor each.
    const own = layers.map((layer, i) => {
      const { data, shape } = outputs[i] as Tensor;
      return new Tensor(layers.indexOf(layer) === i ? data : data.slice(), shape);
    });
    return Object.fromEntries(names.map((name, i) => [name, own[i]])) as Record<Name, Tensor>;
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
  async preprocess(image: ImageInput, options: ForwardOptions = {}): Promise<Tensor> {
    this.#checkLive();
    const { preset, inChannels } = this.config;
    if (!preset) {
      throw new VGGNetError(
        'INVALID_ARGUMENT',
        `An image has 1 or 3 channels and this network takes ${inChannels}: make the input tensor yourself`,
      );
    }
    return imageToTensor(image, preset, options);
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
    const side = Math.max(this.config.preset?.crop ?? 224, leastSide(this.#layers));
    return summarize(this.config, this.#layers, inputShape ?? [1, this.config.inChannels, side, side]);
  }

  /**
   * All parameters and running statistics by name, as copies.
   * @param options.naming whose names: default torchvision's
   */
  async stateDict(options: { naming?: NamingScheme | undefined } = {}): Promise<Map<string, Tensor>> {
    const state = new Map<string, Tensor>();
    for (const { name, shape, read } of this.#stateEntries(options.naming)) {
      state.set(name, new Tensor(await read(), shape));
    }
    return state;
  }

  /**
   * The model as a safetensors file, in a stream that holds one tensor at a time. Its metadata describes the network,
   * so that `VGGNet.load` needs nothing else.
   */
  save(options: SaveOptions & { naming?: NamingScheme | undefined } = {}): ReadableStream<Uint8Array> {
    const entries = this.#stateEntries(options.naming);
    const byName = new Map(entries.map((entry) => [entry.name, entry]));
    const read = (name: string): Promise<Float32Array> => (byName.get(name) as StateEntry).read();
    const metadata = { format: 'pt', ...options.metadata, [CONFIG_KEY]: encodeConfig(this.config) };
    return writeSafetensors(entries, read, { ...options, metadata });
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
    const loaded = await compileModel(this.#backend, this.config, this.#layers, source, { ...options, seed });
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
    await executable.readParameter('classifier.6.bias').catch(() => undefined);
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

  async #run(input: Tensor, outputs: readonly string[], options: ForwardOptions): Promise<Tensor[]> {
    const run = this.#prepare(input, outputs, options);
    // A forward that waits for its turn is not told of the signal before then, but its caller is.
    return abortable(this.#loaded.executable.run(input, run), options.signal);
  }

  /** Checks an input, and says how it is to be run. */
  #prepare(input: Tensor, outputs: readonly string[], { signal }: ForwardOptions): RunOptions {
    this.#checkLive();
    throwIfAborted(signal);
    if (!(input instanceof Tensor)) {
      throw new VGGNetError('INVALID_ARGUMENT', `Expected a Tensor, got ${input === null ? 'null' : typeof input}`);
    }
    assertAttached(input);
    const last = Math.max(...outputs.map((name) => this.#layers.findIndex((layer) => layer.name === name)));
    inferShapes(this.#layers.slice(0, last + 1), input.shape);
    const mode = this.#training ? 'train' : 'eval';
    // Every forward in train mode drops other values, and no two models of near seeds ever the same.
    const seed = this.#training ? lowbias32(lowbias32(this.#seed) + this.#trainRuns++) : 0;
    return { outputs, mode, seed, signal };
  }

  #stateEntries(naming: NamingScheme = 'torchvision'): StateEntry[] {
    this.#checkLive();
    checkScheme(naming);
    const { executable } = this.#loaded;
    return this.#layers.flatMap(parametersOf).map(({ name, shape }) => ({
      name: rename(name, naming),
      shape: renamedShape(name, shape, naming, this.config.poolSize),
      read: () => executable.readParameter(name),
    }));
  }

  #checkLive(): void {
    if (this.#disposed) throw new VGGNetError('DISPOSED', 'This model was disposed of');
  }
}

interface StateEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly read: () => Promise<Float32Array>;
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
