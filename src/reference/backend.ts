import type { Backend, DeviceInfo, Executable, ParameterStream, Program, RunOptions, StepTime } from '../backend.js';
import { disposedError, throwIfAborted, VGGNetError } from '../errors.js';
import { type Layer, parametersOf } from '../program/layers.js';
import { layerIndex } from '../program/names.js';
import { inferShapes } from '../program/shape.js';
import { SerialQueue } from '../serial-queue.js';
import { assertAttached, Tensor } from '../tensor.js';
import { ReferenceAutograd } from './autograd.js';
import { forward, type Kept } from './layer.js';
import { readParameters } from './parameters.js';
import { type Parameters, tensorOf, type Value } from './value.js';

/**
 * The oracle: plain loops over the unfused layers in order, on the caller's thread. Obviously right and slow
 * (minutes for one image through VGG16); never picked by `device: 'auto'`.
 */
export function createReferenceBackend(): Backend {
  const device: DeviceInfo = {
    backend: 'reference',
    build: '',
    threads: 1,
    inline: true,
    reason: "asked for by device: 'reference'",
  };
  return {
    device,
    hasGradients: true,
    async compile(program, parameters, options = {}): Promise<Executable> {
      return compile(program, parameters, options.gradients, options.signal);
    },
  };
}

async function compile(
  program: Program,
  stream: ParameterStream,
  gradients?: ReadonlySet<string>,
  signal?: AbortSignal,
): Promise<Executable> {
  const layers = [...program.layers];
  return new ReferenceExecutable(layers, await readParameters(layers, stream, signal), gradients);
}

/** What a run of the layers made. */
export interface Run {
  /** Counts runs: a tape is good until the next one. */
  readonly id: number;
  /** The outputs asked for, each with data of its own. */
  readonly outputs: Tensor[];
  /** Each layer's input and output. */
  readonly kept: Kept[];
}

export class ReferenceExecutable implements Executable {
  readonly layers: readonly Layer[];
  readonly autograd?: ReferenceAutograd;
  readonly #parameters: Map<string, Float32Array>;
  #disposed = false;
  #lastRun = 0;
  readonly #queue = new SerialQueue();

  constructor(layers: readonly Layer[], parameters: Map<string, Float32Array>, gradients?: ReadonlySet<string>) {
    this.layers = layers;
    this.#parameters = parameters;
    if (gradients) this.autograd = new ReferenceAutograd(this, gradients);
  }

  get lastRun(): number {
    return this.#lastRun;
  }

  async run(input: Tensor, options: RunOptions): Promise<Tensor[]> {
    return (await this.runLayers(input, options)).outputs;
  }

  async profile(input: Tensor, options: RunOptions): Promise<StepTime[]> {
    const times: StepTime[] = [];
    await this.runLayers(input, options, (time) => times.push(time));
    return times;
  }

  /** Runs the layers up to the last output, once what is in the queue before is done. */
  async runLayers(input: Tensor, options: RunOptions, onStep: (time: StepTime) => void = () => {}): Promise<Run> {
    this.check(options.signal);
    const requested = options.outputs.map((name) => layerIndex(this.layers, name));
    assertAttached(input);
    inferShapes(this.layers.slice(0, Math.max(...requested) + 1), input.shape, options.mode);
    const copy = new Tensor(input.data.slice(), input.shape);
    return this.enqueue(() => {
      this.#lastRun++;
      return this.#runAll(copy, requested, options, onStep);
    });
  }

  async readParameter(name: string): Promise<Float32Array> {
    this.check();
    const values = this.#parameters.get(name);
    if (!values) {
      const known = [...this.#parameters.keys()].join(', ');
      throw new VGGNetError('INVALID_ARGUMENT', `Unknown parameter '${name}'; known: ${known}`);
    }
    // In the queue, so that it never sees the statistics of half a run.
    return this.enqueue(async () => {
      this.check();
      return values.slice();
    });
  }

  dispose(): void {
    this.#disposed = true;
    this.#parameters.clear();
  }

  async #runAll(
    input: Tensor,
    requested: readonly number[],
    options: RunOptions,
    onStep: (time: StepTime) => void,
  ): Promise<Run> {
    const kept: Kept[] = [];
    let x: Value = input;
    for (const [index, layer] of this.layers.slice(0, Math.max(...requested) + 1).entries()) {
      await this.turn(options.signal);
      const start = performance.now();
      const y = forward(layer, index, x, this.parametersOf(layer), options);
      onStep({ name: layer.name, algorithm: '', ms: performance.now() - start });
      kept.push({ x, y });
      x = y;
    }
    // A layer may be asked for twice, and flatten shares its input's data: each tensor returned is its own.
    const outputs = requested.map((index) => tensorOf((kept[index] as Kept).y));
    return { id: this.#lastRun, outputs, kept };
  }

  /** Its values by their last name: `features.0.weight` is `weight`. */
  parametersOf(layer: Layer): Parameters {
    return Object.fromEntries(
      parametersOf(layer).map(({ name }) => [
        name.slice(layer.path.length + 1),
        this.#parameters.get(name) as Float32Array,
      ]),
    );
  }

  /** A turn of the event loop, in which a signal may fire or dispose() be called. */
  async turn(signal: AbortSignal | undefined): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, 0));
    this.check(signal);
  }

  check(signal?: AbortSignal): void {
    if (this.#disposed) throw disposedError();
    throwIfAborted(signal);
  }

  /** Runs a task once those before it are done, whether they failed or not. */
  enqueue<T>(task: () => Promise<T>): Promise<T> {
    return this.#queue.run(task);
  }
}
