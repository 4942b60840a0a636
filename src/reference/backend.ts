import type { Backend, DeviceInfo, Executable, ParameterStream, Program, RunOptions, StepTime } from '../backend.js';
import { disposedError, throwIfAborted, VGGNetError } from '../errors.js';
import { type Layer, parametersOf } from '../program/layers.js';
import { layerIndex } from '../program/names.js';
import { inferShapes } from '../program/shape.js';
import { SerialQueue } from '../serial-queue.js';
import { assertAttached, Tensor } from '../tensor.js';
import { batchNorm2d, batchNorm2dTrain } from './batch-norm.js';
import {
  adaptiveAvgPool2d,
  conv2d,
  dropout,
  flatten,
  linear,
  maxPool2d,
  type Parameters,
  relu,
  softmax,
} from './kernels.js';
import { readParameters } from './parameters.js';

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
    async compile(program, parameters, options = {}): Promise<Executable> {
      return compile(program, parameters, options.signal);
    },
  };
}

async function compile(program: Program, stream: ParameterStream, signal?: AbortSignal): Promise<Executable> {
  const layers = [...program.layers];
  return new ReferenceExecutable(layers, await readParameters(layers, stream, signal));
}

class ReferenceExecutable implements Executable {
  readonly #layers: readonly Layer[];
  readonly #parameters: Map<string, Float32Array>;
  #disposed = false;
  readonly #queue = new SerialQueue();

  constructor(layers: readonly Layer[], parameters: Map<string, Float32Array>) {
    this.#layers = layers;
    this.#parameters = parameters;
  }

  run(input: Tensor, options: RunOptions): Promise<Tensor[]> {
    return this.#start(input, options);
  }

  async #start(input: Tensor, options: RunOptions, onStep: (time: StepTime) => void = () => {}): Promise<Tensor[]> {
    this.#check(options.signal);
    const wanted = options.outputs.map((name) => layerIndex(this.#layers, name));
    assertAttached(input);
    inferShapes(this.#layers.slice(0, Math.max(...wanted) + 1), input.shape, options.mode);
    const copy = new Tensor(input.data.slice(), input.shape);
    return this.#queue.run(() => this.#runLayers(copy, wanted, options, onStep));
  }

  async profile(input: Tensor, options: RunOptions): Promise<StepTime[]> {
    const times: StepTime[] = [];
    await this.#start(input, options, (time) => times.push(time));
    return times;
  }

  async readParameter(name: string): Promise<Float32Array> {
    this.#check();
    const values = this.#parameters.get(name);
    if (!values) {
      throw new VGGNetError('INVALID_ARGUMENT', `Unknown parameter '${name}'; known: ${this.#known()}`);
    }
    // In the queue, so that it never sees the statistics of half a run.
    return this.#queue.run(async () => {
      this.#check();
      return values.slice();
    });
  }

  dispose(): void {
    this.#disposed = true;
    this.#parameters.clear();
  }

  async #runLayers(
    input: Tensor,
    wanted: readonly number[],
    options: RunOptions,
    onStep: (time: StepTime) => void,
  ): Promise<Tensor[]> {
    const outputs = new Map<number, Tensor>();
    const last = Math.max(...wanted);
    let x = input;
    for (const [index, layer] of this.#layers.slice(0, last + 1).entries()) {
      // A turn of the event loop, in which a signal may fire or dispose() be called.
      await new Promise((resolve) => setTimeout(resolve, 0));
      this.#check(options.signal);
      const start = performance.now();
      x = this.#runLayer(layer, index, x, options);
      onStep({ name: layer.name, algorithm: '', ms: performance.now() - start });
      if (wanted.includes(index)) outputs.set(index, x);
    }
    // A layer may be asked for twice, and flatten shares its input's data: each tensor returned is its own.
    return wanted.map((index) => {
      const output = outputs.get(index) as Tensor;
      return new Tensor(output.data.slice(), output.shape);
    });
  }

  #runLayer(layer: Layer, index: number, x: Tensor, { mode, seed }: RunOptions): Tensor {
    const parameters = this.#parametersOf(layer);
    const train = mode === 'train';
    switch (layer.op) {
      case 'conv2d':
        return conv2d(x, layer, parameters);
      case 'batchNorm2d':
        return train ? batchNorm2dTrain(x, layer, parameters) : batchNorm2d(x, layer, parameters);
      case 'relu':
        return relu(x);
      case 'maxPool2d':
        return maxPool2d(x);
      case 'adaptiveAvgPool2d':
        return adaptiveAvgPool2d(x, layer);
      case 'flatten':
        return flatten(x);
      case 'linear':
        return linear(x, layer, parameters);
      case 'dropout':
        return train ? dropout(x, layer, seed, index) : x;
      case 'softmax':
        return softmax(x);
    }
  }

  /** By their last name: `features.0.weight` is `weight`. */
  #parametersOf(layer: Layer): Parameters {
    return Object.fromEntries(
      parametersOf(layer).map(({ name }) => [
        name.slice(layer.path.length + 1),
        this.#parameters.get(name) as Float32Array,
      ]),
    );
  }

  #known(): string {
    return [...this.#parameters.keys()].join(', ');
  }

  #check(signal?: AbortSignal): void {
    if (this.#disposed) throw disposedError();
    throwIfAborted(signal);
  }
}
