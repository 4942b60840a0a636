import type { RunOptions } from '../../backend.js';
import { VGGNetError } from '../../errors.js';
import { type BackwardStep, backwardSteps, INPUT, type ReluRule, tapeDropped } from '../../program/gradient.js';
import { allocate, type TensorData } from '../../tensor.js';
import { BYTES, valueBytes } from '../plan/layout.js';
import type { PlacedValue } from '../plan/plan.js';
import type { TapePlan, TapeStep } from '../plan/tape.js';
import { BackwardContext, type Gradient } from './backward/context.js';
import { gram, gramBackward } from './backward/gram.js';
import { BackwardOperations } from './backward/operations.js';
import { maxPool2dArgmax } from './backward/pool.js';
import { type EngineParts, type RunControl, readValue } from './engine.js';
import { Gradients } from './gradients.js';

/** What is asked of a backward pass, as it goes to a worker. */
export interface BackwardData {
  /** The number that it was recorded with. */
  readonly tape: number;
  readonly cotangents: readonly { readonly name: string; readonly data: Float32Array }[];
  readonly wrt: readonly string[];
  readonly reluRule: ReluRule;
}

interface Tape {
  readonly id: number;
  readonly plan: TapePlan;
  readonly options: RunOptions;
}

/**
 * Records forwards and goes back through them. There is one tape, in the arena that every run uses: a run takes it over,
 * and the tape is dropped.
 */
export class TapeEngine {
  readonly #parts: EngineParts;
  readonly #gradients: Gradients;
  #tape: Tape | undefined;

  /** @param trained names of the parameters that get gradients */
  constructor(parts: EngineParts, trained: ReadonlySet<string>) {
    this.#parts = parts;
    this.#gradients = new Gradients(parts, trained);
  }

  /** Another run begins. */
  drop(): void {
    this.#tape = undefined;
  }

  /**
   * Runs a forward that keeps what backward needs.
   * @param id a number that no tape of this model has had
   */
  async record(
    id: number,
    input: TensorData,
    plan: TapePlan,
    options: RunOptions,
    control: RunControl,
  ): Promise<TensorData[]> {
    const { heap, operations } = this.#parts;
    this.drop();
    heap.reserveArena(plan.arenaBytes);
    operations.begin(options.mode);
    const first = plan.steps[0]?.call.input;
    if (first) heap.f32.set(input.data, heap.addressOf(first) / BYTES);
    const results = new Map<string, TensorData>();
    for (const step of plan.steps) {
      checkAborted(control);
      this.#compute(step, options);
      for (const name of step.call.names) {
        if (options.outputs.includes(name)) results.set(name, this.#read(step.call.output));
      }
      await control.pause();
    }
    operations.complete();
    this.#tape = { id, plan, options };
    return options.outputs.map((name) => results.get(name) as TensorData);
  }

  /** Adds to the gradients of the parameters, and gives those asked for; one that fails clears them. */
  async backward(request: BackwardData, control: RunControl): Promise<TensorData[]> {
    const tape = this.#tape;
    if (!tape || tape.id !== request.tape) throw tapeDropped();
    try {
      const results = await this.#walk(tape, request, control);
      return request.wrt.map((name) => results.get(name) as TensorData);
    } catch (error) {
      this.#gradients.clear();
      throw error;
    }
  }

  readGradient(name: string): Float32Array {
    return this.#gradients.read(name);
  }

  zeroGradients(): void {
    this.#gradients.clear();
  }

  /** G = X Xᵀ for each image. */
  gram({ data, shape }: TensorData): TensorData {
    const [n = 0, c = 0, h = 0, w = 0] = shape;
    const out = { data: allocate([n, c, c]), shape: [n, c, c] };
    for (let image = 0; image < n; image++) {
      const x = data.subarray(image * c * h * w, (image + 1) * c * h * w);
      out.data.set(gram(this.#parts, x, c, h * w, this.#free()), image * c * c);
    }
    return out;
  }

  /** dX = (dG + dGᵀ) X for each image. */
  gramBackward({ data, shape }: TensorData, cotangent: TensorData): TensorData {
    const [n = 0, c = 0, h = 0, w = 0] = shape;
    const out = { data: allocate(shape), shape };
    for (let image = 0; image < n; image++) {
      const at = image * c * h * w;
      const x = data.subarray(at, at + c * h * w);
      const dg = cotangent.data.subarray(image * c * c, (image + 1) * c * c);
      const both = dg.map((value, i) => value + (dg[(i % c) * c + Math.floor(i / c)] as number));
      out.data.set(gramBackward(this.#parts, both, x, c, h * w, this.#free()), at);
    }
    return out;
  }

  /** Bytes of the arena that a tape holds. */
  #free(): number {
    return this.#tape?.plan.arenaBytes ?? 0;
  }

  #compute({ call, copies, argmax }: TapeStep, options: RunOptions): void {
    const { operations } = this.#parts;
    const { input, output, step } = call;
    if (copies) this.#copy(input, output);
    if (argmax !== undefined) maxPool2dArgmax(this.#parts, input, output, argmax);
    else if (step || input.offset !== output.offset) {
      operations.compute(copies ? { ...call, input: { ...input, offset: output.offset } } : call, options);
    }
  }

  #copy(from: PlacedValue, to: PlacedValue): void {
    const { heap } = this.#parts;
    const start = heap.addressOf(from) / BYTES;
    heap.f32.copyWithin(heap.addressOf(to) / BYTES, start, start + valueBytes(from) / BYTES);
  }

  async #walk(tape: Tape, request: BackwardData, control: RunControl): Promise<Map<string, TensorData>> {
    const { layers } = this.#parts;
    const { plan, options } = tape;
    const names = { cotangents: request.cotangents.map(({ name }) => name), wrt: request.wrt };
    const results = new Map<string, TensorData>();
    const context = new BackwardContext(this.#parts, this.#gradients, plan, options, request.reluRule);
    const operations = new BackwardOperations(context);
    let gradient: Gradient | undefined;
    for (const step of backwardSteps(layers, names, this.#gradients.trained)) {
      checkAborted(control);
      gradient = this.#step(step, gradient, request, results, operations);
      await control.pause();
    }
    if (request.wrt.includes(INPUT)) results.set(INPUT, this.#read(operations.read(gradient as Gradient)));
    return results;
  }

  #step(
    { layer, index, ...step }: BackwardStep,
    later: Gradient | undefined,
    request: BackwardData,
    results: Map<string, TensorData>,
    operations: BackwardOperations,
  ): Gradient {
    const output = operations.outputValue(index);
    let gradient = later && operations.convert(later, output);
    if (step.cotangent) {
      const { data } = request.cotangents.find(({ name }) => name === layer.name) as { data: Float32Array };
      gradient = operations.addCotangent(gradient, output, data);
    }
    const dy = gradient as Gradient;
    if (step.requested) results.set(layer.name, this.#read(operations.read(dy)));
    if (step.parameters.length > 0) operations.parameterGradients(layer, index, dy, step.parameters);
    return step.inputGradient ? operations.inputGradient(layer, index, dy) : dy;
  }

  #read(value: PlacedValue): TensorData {
    const { heap } = this.#parts;
    const data = allocate(value.shape);
    readValue(heap.f32, heap.addressOf(value), value, data);
    return { data, shape: value.shape };
  }
}

function checkAborted({ aborted }: RunControl): void {
  if (aborted()) throw new VGGNetError('ABORTED', 'Stopped by the AbortSignal');
}
