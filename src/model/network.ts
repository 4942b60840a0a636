import { abortable } from '../abort.js';
import type { Autograd, Backend, Executable, GPUExecutable, RunOptions, StepTime } from '../backend.js';
import { disposedError, throwIfAborted, VGGNetError } from '../errors.js';
import { GPUTensor } from '../gpu-tensor.js';
import { lowbias32 } from '../program/dropout.js';
import { type Layer, parametersOf } from '../program/layers.js';
import { layerIndex, layerNamed } from '../program/names.js';
import { inferShapes } from '../program/shape.js';
import { checkSeed } from '../random.js';
import { SerialQueue } from '../serial-queue.js';
import { assertAttached, Tensor } from '../tensor.js';
import type { VGGConfig } from '../vgg.js';
import type { WeightsInput } from '../weights/bytes/bytes.js';
import { openWeights } from '../weights/open.js';
import { reopener } from '../weights/reopen.js';
import { compileModel, type IncompatibleKeys, type Loaded } from './load.js';
import type { CreateOptions, ForwardOptions, LoadOptions, OnGPU } from './options.js';
import type { Gradients, Tape } from './record.js';

/** Tensors on either side. */
export type AnyTensor = Tensor | GPUTensor;

/** A network on a device: the executable that has its weights now, and the mode that it runs in. */
export class Network {
  readonly config: VGGConfig;
  readonly backend: Backend;
  readonly layers: readonly Layer[];
  /** Whether image files are decoded alike in every runtime. */
  readonly deterministic: boolean | undefined;
  training = false;
  readonly gradients: Gradients | undefined;
  readonly #seed: number;
  readonly #loads = new SerialQueue();
  /** Executables whose weights were replaced, while forwards that began with them are running. */
  readonly #retired = new Set<Executable>();
  #loaded: Loaded;
  #trainRuns = 0;
  #disposed = false;

  constructor(
    config: VGGConfig,
    backend: Backend,
    layers: readonly Layer[],
    loaded: Loaded,
    { seed = 0, deterministic }: Pick<CreateOptions, 'seed' | 'deterministic'>,
    gradients?: Gradients,
  ) {
    this.config = config;
    this.backend = backend;
    this.layers = layers;
    this.#loaded = loaded;
    this.deterministic = deterministic;
    this.#seed = seed;
    this.gradients = gradients;
  }

  get incompatibleKeys(): IncompatibleKeys {
    return this.#loaded.keys;
  }

  /** @throws VGGNetError `DISPOSED` */
  checkLive(): void {
    if (this.#disposed) throw disposedError();
  }

  /** @throws VGGNetError `DISPOSED` */
  get executable(): Executable {
    this.checkLive();
    return this.#loaded.executable;
  }

  /** @throws VGGNetError `BACKEND_UNAVAILABLE` if this is no GPU; `DISPOSED` */
  get gpu(): GPUExecutable {
    const { gpu } = this.executable;
    if (gpu) return gpu;
    throw new VGGNetError(
      'BACKEND_UNAVAILABLE',
      `This model runs on ${this.backend.device.backend}; tensors on the GPU need one with device: 'webgpu'`,
    );
  }

  /** The outputs of layers, by any of their names, in this order; a layer that is named twice comes once computed. */
  async run(input: AnyTensor, names: readonly string[], options: Partial<OnGPU>): Promise<AnyTensor[]> {
    const place = checkPlace(options.output);
    const run = this.#prepare(input, names, options);
    if (place === 'gpu' || input instanceof GPUTensor) {
      return abortable(this.gpu.runOn(input, run, place), options.signal);
    }
    // A forward in the queue looks at the signal only when its turn comes; its caller is answered at once.
    return abortable(this.executable.run(input, run), options.signal);
  }

  /** Runs forward and keeps what a backward pass needs. */
  async record<Name extends string>(
    input: Tensor,
    names: readonly Name[],
    options: ForwardOptions,
  ): Promise<Tape<Name>> {
    const { gradients, autograd } = this.autograd;
    checkNames(names);
    const run = this.#prepare(input, names, options);
    if (!(input instanceof Tensor)) {
      throw new VGGNetError('INVALID_ARGUMENT', 'record takes a Tensor: WebGPU has no gradients in this version');
    }
    const current = (): Autograd => this.autograd.autograd;
    return abortable(gradients.record(autograd, input, names, run, current), options.signal);
  }

  /** @throws VGGNetError `NOT_TRAINABLE` if it was made without gradients; `DISPOSED` */
  get autograd(): { gradients: Gradients; autograd: Autograd } {
    const { autograd } = this.executable;
    if (this.gradients && autograd) return { gradients: this.gradients, autograd };
    throw new VGGNetError(
      'NOT_TRAINABLE',
      'This model was made without gradients: pass gradients: true to create(), or a function that chooses parameters',
    );
  }

  /** The time of each step on the way to a layer. */
  profile(input: Tensor, name: string, options: ForwardOptions): Promise<StepTime[]> {
    const run = this.#prepare(input, [name], options);
    return abortable(this.executable.profile(input, run), options.signal);
  }

  /** Checks an input, and says how it is to be run. */
  #prepare(input: AnyTensor, names: readonly string[], { signal }: ForwardOptions): RunOptions {
    this.checkLive();
    throwIfAborted(signal);
    if (!(input instanceof Tensor || input instanceof GPUTensor)) {
      throw new VGGNetError('INVALID_ARGUMENT', `Expected a Tensor, got ${input === null ? 'null' : typeof input}`);
    }
    if (input instanceof Tensor) assertAttached(input);
    const outputs = names.map((name) => layerNamed(this.layers, name).name);
    const last = Math.max(...outputs.map((name) => layerIndex(this.layers, name)));
    const mode = this.training ? 'train' : 'eval';
    inferShapes(this.layers.slice(0, last + 1), input.shape, mode);
    // Every forward in train mode drops other values, and no two models of near seeds ever the same.
    const seed = this.training ? lowbias32(lowbias32(this.#seed) + this.#trainRuns++) : 0;
    return { outputs, mode, seed, signal };
  }

  /** Replaces the weights, one load after another. On any error the network is unchanged. */
  replace(weights: WeightsInput, options: LoadOptions): Promise<IncompatibleKeys> {
    return this.#loads.run(() => this.#replace(weights, options));
  }

  async #replace(weights: WeightsInput, options: LoadOptions): Promise<IncompatibleKeys> {
    this.checkLive();
    const { seed = this.#seed } = options;
    checkSeed(seed);
    const source = await openWeights(weights, options);
    let loaded: Loaded;
    try {
      loaded = await compileModel(this, source, { ...options, seed }, reopener(weights, options));
    } finally {
      await source.close();
    }
    if (this.#disposed) loaded.executable.dispose();
    const { executable } = this;
    this.#loaded = loaded;
    this.training = false;
    await this.#retire(executable);
    return loaded.keys;
  }

  /** Disposes old weights once the forwards that began with them are done: a read waits for those before it. */
  async #retire(executable: Executable): Promise<void> {
    this.#retired.add(executable);
    const [any] = this.layers.flatMap(parametersOf);
    if (any) await executable.readParameter(any.name).catch(() => undefined);
    executable.dispose();
    this.#retired.delete(executable);
  }

  dispose(): void {
    this.#disposed = true;
    for (const executable of [this.#loaded.executable, ...this.#retired]) executable.dispose();
  }
}

/** @throws VGGNetError `INVALID_ARGUMENT` if this is no list of layer names */
export function checkNames(names: unknown): void {
  if (Array.isArray(names) && names.length > 0) return;
  throw new VGGNetError('INVALID_ARGUMENT', "Expected a list of layer names, such as ['relu3_3']");
}

/** Where results go. */
export function checkPlace(output: unknown): 'cpu' | 'gpu' {
  if (output === undefined || output === 'gpu') return output ?? 'cpu';
  throw new VGGNetError('INVALID_ARGUMENT', `output must be 'gpu' or left out, got ${JSON.stringify(output)}`);
}
