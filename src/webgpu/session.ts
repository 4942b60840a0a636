import type { ParameterStream, Program, RunOptions, StepTime } from '../backend.js';
import { throwIfAborted, VGGNetError } from '../errors.js';
import { GPUTensor } from '../gpu-tensor.js';
import { type Layer, parametersOf } from '../program/layers.js';
import { numel, Tensor } from '../tensor.js';
import { Arena } from './arena.js';
import { compilePipelines } from './compile.js';
import type { Context } from './context.js';
import { Derived } from './derived.js';
import { Forward, resultBytes } from './forward.js';
import { Parameters } from './parameters.js';
import { makePlan, type Plan } from './plan.js';

/** Plans kept for input shapes seen lately. */
const MAX_PLANS = 8;

/** Where the results of a run are left. */
export type OutputPlace = 'cpu' | 'gpu';

/** One program with its parameters on one device. One run at a time. */
export class Session {
  readonly context: Context;
  readonly #layers: readonly Layer[];
  readonly #parameters: Parameters;
  readonly #arena: Arena;
  readonly #derived: Derived;
  readonly #forwards = new Map<string, Forward>();

  private constructor(context: Context, layers: readonly Layer[], parameters: Parameters) {
    this.context = context;
    this.#layers = layers;
    this.#parameters = parameters;
    this.#arena = new Arena(context);
    this.#derived = new Derived(context, layers, parameters);
  }

  /** @throws VGGNetError `OUT_OF_MEMORY`, `DEVICE_LOST`, `GPU_ERROR`, `ABORTED`, or what the stream throws */
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

  /** Compiles what the usual input needs, so that the first forward need not wait for it. */
  async #compile(inputShape: readonly number[]): Promise<void> {
    const outputs = [(this.#layers.at(-1) as Layer).name];
    const options: RunOptions = { outputs, mode: 'eval', seed: 0 };
    let plan: Plan | undefined;
    try {
      plan = this.#plan(inputShape, options);
    } catch (error) {
      // Too large for this device: a forward of that size will say so, and a smaller one may do.
      if (!(error instanceof VGGNetError && error.code === 'OUT_OF_MEMORY')) throw error;
    }
    if (plan) await compilePipelines(this.context, plan, this.#parameters);
  }

  /** Computes the outputs asked for; the input's shape has been checked. */
  async run(input: Tensor | GPUTensor, options: RunOptions, place: OutputPlace): Promise<(Tensor | GPUTensor)[]> {
    if (options.outputs.length === 0) return [];
    const plan = this.#plan(input.shape, options);
    if (!plan) return this.#halve(input, options, place);
    const forward = await this.#forward(plan, input.shape, options);
    throwIfAborted(options.signal);
    return forward.run(input, options, place);
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

  /** Puts statistics that another session had in the place of these. */
  async restore(statistics: ReadonlyMap<string, Float32Array>): Promise<void> {
    this.#derived.stale = true;
    for (const [name, data] of statistics) await this.#parameters.replace(name, data);
  }

  /** Undefined if the batch has to be cut in two. */
  #plan(shape: readonly number[], options: RunOptions): Plan | undefined {
    const planner = {
      layers: this.#layers,
      capabilities: this.context.capabilities,
      weights: (layer: Layer) => this.#parameters.layout(layer, 'weight'),
    };
    try {
      return makePlan(planner, shape, options);
    } catch (error) {
      const mayCut = options.mode === 'eval' && (shape[0] as number) > 1;
      if (mayCut && error instanceof VGGNetError && error.code === 'OUT_OF_MEMORY') return undefined;
      throw error;
    }
  }

  async #halve(input: Tensor | GPUTensor, options: RunOptions, place: OutputPlace): Promise<(Tensor | GPUTensor)[]> {
    if (place === 'gpu') {
      throw new VGGNetError(
        'OUT_OF_MEMORY',
        `A batch of ${input.shape[0]} is too large for outputs in one GPUBuffer each`,
      );
    }
    const results: Tensor[][] = [];
    for (const part of halvesOf(input.shape)) {
      results.push((await this.run(slice(input, part), options, place)) as Tensor[]);
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
      replaced = await this.#arena.reserve({ ...bytes, result: resultBytes(plan, options.outputs), ...scratch });
    } finally {
      if (replaced) this.#forget();
    }
    const known = this.#forwards.get(key);
    if (known) return known;
    const { context } = this;
    const forward = await Forward.prepare(
      { context, plan, parameters: this.#parameters, arena: this.#arena, derived: this.#derived },
      options,
    );
    this.#forwards.set(key, forward);
    const [oldest] = this.#forwards.keys();
    if (this.#forwards.size > MAX_PLANS) {
      this.#forwards.get(oldest as string)?.destroy();
      this.#forwards.delete(oldest as string);
    }
    return forward;
  }

  #forget(): void {
    for (const forward of this.#forwards.values()) forward.destroy();
    this.#forwards.clear();
  }

  /** Destroys all of its buffers. */
  destroy(): void {
    this.#forget();
    this.#arena.destroy();
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

/** Some images of an input, without a copy. */
function slice(input: Tensor | GPUTensor, [from, to]: [from: number, to: number]): Tensor | GPUTensor {
  const shape = [to - from, ...input.shape.slice(1)];
  const size = numel(shape.slice(1));
  if (input instanceof Tensor) return new Tensor(input.data.subarray(from * size, to * size), shape);
  return new GPUTensor(input.buffer, shape, { offset: input.offset + from * size * 4 });
}
