import type { ParameterStream, Program, RunOptions, StepTime } from '../backend.js';
import { throwIfAborted, VGGNetError } from '../errors.js';
import { GPUTensor } from '../gpu-tensor.js';
import { type Layer, parametersOf } from '../program/layers.js';
import { numel, Tensor } from '../tensor.js';
import { ActivationBuffers } from './activations.js';
import { compilePipelines } from './compile.js';
import type { Context } from './context.js';
import { Derived } from './derived.js';
import { Forward, resultBytes } from './forward.js';
import { Parameters } from './parameters.js';
import { makePlan, type Plan } from './plan.js';
import type { OutputLocation } from './readback.js';

/** Forwards kept ready: those for the most recently used input shapes. */
const MAX_FORWARDS = 8;

/** A program with its parameters on a device. One run at a time. */
export class Session {
  readonly context: Context;
  readonly #layers: readonly Layer[];
  readonly #parameters: Parameters;
  readonly #activations: ActivationBuffers;
  readonly #derived: Derived;
  /** The least recently used one first. */
  readonly #forwards = new Map<string, Forward>();

  private constructor(context: Context, layers: readonly Layer[], parameters: Parameters) {
    this.context = context;
    this.#layers = layers;
    this.#parameters = parameters;
    this.#activations = new ActivationBuffers(context);
    this.#derived = new Derived(context, layers, parameters);
  }

  /** @throws VGGNetError `OUT_OF_MEMORY`, `DEVICE_LOST`, `GPU_ERROR`, `ABORTED`; any error of the stream */
  static async create(
    context: Context,
    { layers, inputShape }: Program,
    parameters: ParameterStream,
    signal?: AbortSignal,
  ): Promise<Session> {
    throwIfAborted(signal);
    const kept = await Parameters.create(context, layers);
    const session = new Session(context, layers, kept);
    const compiled = inputShape ? session.#compile(inputShape) : undefined;
    compiled?.catch(() => undefined);
    try {
      for await (const chunk of parameters) {
        throwIfAborted(signal);
        await kept.write(chunk);
      }
      await kept.finish();
      await compiled;
      throwIfAborted(signal);
      return session;
    } catch (error) {
      session.destroy();
      throw error;
    }
  }

  /** Compiles the pipelines for the usual input, so that the first forward does not wait for them. */
  async #compile(inputShape: readonly number[]): Promise<void> {
    const outputs = [(this.#layers.at(-1) as Layer).name];
    const options: RunOptions = { outputs, mode: 'eval', seed: 0 };
    let plan: Plan | undefined;
    try {
      plan = this.#plan(inputShape, options);
    } catch (error) {
      // Too large for this device. A forward of that size will throw; a smaller one may fit.
      if (!(error instanceof VGGNetError && error.code === 'OUT_OF_MEMORY')) throw error;
    }
    if (plan) await compilePipelines(this.context, plan, this.#parameters);
  }

  /** Computes the requested outputs. The caller has checked the input's shape. */
  async run(input: Tensor | GPUTensor, options: RunOptions, location: OutputLocation): Promise<(Tensor | GPUTensor)[]> {
    if (options.outputs.length === 0) return [];
    const plan = this.#plan(input.shape, options);
    if (!plan) return this.#halve(input, options, location);
    const forward = await this.#forward(plan, input.shape, options);
    throwIfAborted(options.signal);
    return forward.run(input, options, location);
  }

  /** The time of each step. */
  async profile(input: Tensor | GPUTensor, options: RunOptions): Promise<StepTime[]> {
    const plan = this.#plan(input.shape, options);
    if (!plan) {
      const halves = halvesOf(input.shape).map((part) => slice(input, part));
      const [first = [], second = []] = [
        await this.profile(halves[0] as Tensor, options),
        await this.profile(halves[1] as Tensor, options),
      ];
      return first.map((step, i) => ({ ...step, ms: step.ms + (second[i]?.ms ?? 0) }));
    }
    const forward = await this.#forward(plan, input.shape, options);
    throwIfAborted(options.signal);
    return forward.profile(input, options);
  }

  readParameter(name: string): Promise<Float32Array> {
    return this.#parameters.read(name);
  }

  /** The running statistics of batch norm, by the parameters' names. */
  async statistics(): Promise<ReadonlyMap<string, Float32Array>> {
    const names = this.#layers.flatMap(parametersOf).filter(({ learned }) => !learned);
    return names.length === 0 ? new Map() : this.#parameters.readVectors(names.map(({ name }) => name));
  }

  /** Replaces the running statistics by those of another session. */
  async restore(statistics: ReadonlyMap<string, Float32Array>): Promise<void> {
    this.#derived.stale = true;
    for (const [name, data] of statistics) await this.#parameters.replace(name, data);
  }

  /** Undefined if the batch must be halved. */
  #plan(shape: readonly number[], options: RunOptions): Plan | undefined {
    const planner = {
      layers: this.#layers,
      capabilities: this.context.capabilities,
      weights: (layer: Layer) => this.#parameters.layout(layer, 'weight'),
    };
    try {
      return makePlan(planner, shape, options);
    } catch (error) {
      const mayHalve = options.mode === 'eval' && (shape[0] as number) > 1;
      if (mayHalve && error instanceof VGGNetError && error.code === 'OUT_OF_MEMORY') return undefined;
      throw error;
    }
  }

  async #halve(
    input: Tensor | GPUTensor,
    options: RunOptions,
    location: OutputLocation,
  ): Promise<(Tensor | GPUTensor)[]> {
    if (location === 'gpu') {
      throw new VGGNetError(
        'OUT_OF_MEMORY',
        `A batch of ${input.shape[0]} is too large to leave each output in one GPUBuffer`,
      );
    }
    const results: Tensor[][] = [];
    for (const part of halvesOf(input.shape)) {
      results.push((await this.run(slice(input, part), options, location)) as Tensor[]);
    }
    return options.outputs.map((_, i) => {
      const pieces = results.map((tensors) => tensors[i] as Tensor);
      const whole = Tensor.zeros([input.shape[0] as number, ...(pieces[0] as Tensor).shape.slice(1)]);
      let at = 0;
      for (const { data } of pieces) {
        whole.data.set(data, at);
        at += data.length;
      }
      return whole;
    });
  }

  async #forward(plan: Plan, shape: readonly number[], options: RunOptions): Promise<Forward> {
    const key = JSON.stringify([shape, options.outputs, options.mode]);
    const { bytes, scratchBytes } = plan;
    const scratch = Object.fromEntries(scratchBytes.map((size, i) => [`scratch ${i}`, size]));
    let replaced = true;
    try {
      replaced = await this.#activations.reserve({ ...bytes, result: resultBytes(plan, options.outputs), ...scratch });
    } finally {
      if (replaced) this.#forget();
    }
    const { context } = this;
    const resources = {
      context,
      plan,
      parameters: this.#parameters,
      activations: this.#activations,
      derived: this.#derived,
    };
    const forward = this.#forwards.get(key) ?? (await Forward.prepare(resources, options));
    // Inserted again, so that it becomes the last of the map's order.
    this.#forwards.delete(key);
    this.#forwards.set(key, forward);
    if (this.#forwards.size > MAX_FORWARDS) {
      const oldest = this.#forwards.keys().next().value as string;
      this.#forwards.get(oldest)?.destroy();
      this.#forwards.delete(oldest);
    }
    return forward;
  }

  #forget(): void {
    for (const forward of this.#forwards.values()) forward.destroy();
    this.#forwards.clear();
  }

  /** Destroys all buffers. */
  destroy(): void {
    this.#forget();
    this.#activations.destroy();
    this.#derived.destroy();
    this.#parameters.destroy();
  }
}

function halvesOf([n = 0]: readonly number[]): [from: number, to: number][] {
  const half = Math.ceil(n / 2);
  return [
    [0, half],
    [half, n],
  ];
}

/** The images `from` up to `to` of an input, without a copy. */
function slice(input: Tensor | GPUTensor, [from, to]: [from: number, to: number]): Tensor | GPUTensor {
  const shape = [to - from, ...input.shape.slice(1)];
  const size = numel(shape.slice(1));
  if (input instanceof Tensor) return new Tensor(input.data.subarray(from * size, to * size), shape);
  return new GPUTensor(input.buffer, shape, { offset: input.offset + from * size * 4 });
}
