import type { ParameterChunk, RunOptions, StepTime } from '../../backend.js';
import { VGGNetError } from '../../errors.js';
import { stepLabel } from '../../program/fuse.js';
import { allocate, numel, type TensorData } from '../../tensor.js';
import type { Kernels } from '../kernels.js';
import { BYTES, type Value } from '../plan/layout.js';
import { ARGUMENT_BYTES, CONTROL, SCRATCH } from '../plan/memory.js';
import type { KernelCall, PlacedValue, Plan } from '../plan/plan.js';
import type { EngineConfig } from '../plan/plan-cache.js';
import { Heap } from './heap.js';
import { instantiateKernels } from './instance.js';
import { Operations } from './operations.js';
import { Parameters } from './parameters.js';

/** The memory of an engine that helper threads compute on, and where its control block lies. */
export interface SharedMemory {
  readonly memory: WebAssembly.Memory;
  /** The address of the control block, whose first word not being zero tells the threads to give up. */
  readonly control: number;
  /** The length of the control block. */
  readonly bytes: number;
}

/** How the caller follows a run and stops it. */
export interface RunControl {
  /** Resolves when other tasks of this thread have had their turn. */
  readonly pause: () => Promise<void>;
  /** Looked at between two steps: true stops the run. */
  readonly aborted: () => boolean;
  readonly onStep: (time: StepTime) => void;
}

/**
 * One program with its parameters in one WebAssembly memory. It computes on the thread that it lives on (a worker, or the
 * caller's own), and only executes plans: all choices are in its config and in each run's plan. One run at a time.
 */
export class Engine {
  readonly #heap: Heap;
  readonly #parameters: Parameters;
  readonly #operations: Operations;
  readonly #control: number;

  private constructor(heap: Heap, kernels: Kernels, { layers, algorithms, threads }: EngineConfig) {
    this.#heap = heap;
    this.#control = heap.keep(CONTROL);
    heap.i32.fill(0, this.#control / 4, (this.#control + CONTROL) / 4);
    const args = heap.keep(ARGUMENT_BYTES);
    const scratch = heap.keep(SCRATCH * threads);
    this.#parameters = new Parameters(heap, kernels, layers, algorithms);
    const buffers = { control: this.#control, args, scratch, threads };
    this.#operations = new Operations(heap, kernels, layers, this.#parameters, buffers);
  }

  /**
   * @param memory of an earlier engine of the same config, whose parameters are in it; then none needs to be written
   * @throws VGGNetError `OUT_OF_MEMORY` if the parameters do not fit
   */
  static async create(module: WebAssembly.Module, config: EngineConfig, memory?: WebAssembly.Memory): Promise<Engine> {
    const heap = new Heap({ shared: config.threads > 1, limit: config.memoryLimit, memory });
    return new Engine(heap, await instantiateKernels(module, heap.memory), config);
  }

  get sharedMemory(): SharedMemory {
    return { memory: this.#heap.memory, control: this.#control, bytes: CONTROL };
  }

  writeParameter(chunk: ParameterChunk): void {
    this.#parameters.write(chunk);
  }

  /** Call once, after the last `writeParameter`. */
  finishParameters(): void {
    this.#parameters.finish();
  }

  readParameter(name: string): Float32Array {
    return this.#parameters.read(name);
  }

  /** Computes the requested outputs by a plan for them and for the input's shape. */
  async run(input: TensorData, plan: Plan, options: RunOptions, control: RunControl): Promise<TensorData[]> {
    if (options.outputs.length === 0) return [];
    this.#heap.reserveArena(plan.arenaBytes);
    this.#operations.begin(options.mode);
    const results = new Map<string, TensorData>();
    const batch = input.shape[0] as number;
    for (let first = 0; first < batch; first += plan.batch) {
      await this.#pass(input, first, Math.min(plan.batch, batch - first), plan, options, control, results);
    }
    this.#operations.complete();
    return options.outputs.map((name) => results.get(name) as TensorData);
  }

  /** Runs images `start` to `start + count` − 1 through the network. */
  async #pass(
    input: TensorData,
    start: number,
    count: number,
    plan: Plan,
    options: RunOptions,
    control: RunControl,
    results: Map<string, TensorData>,
  ): Promise<void> {
    const batch = input.shape[0] as number;
    for (let first = 0; first < count; first += plan.chunk) {
      const images = Math.min(plan.chunk, count - first);
      // A last chunk with fewer images leaves the rest of its buffers as they are.
      this.#writeInput(input, start, first, images, plan);
      for (const call of plan.spatial) {
        await this.#step(shrink(call, images), options, control);
        this.#keep(shrink(call, images), batch, start + first, options, results);
      }
      this.#collect(plan, first, images);
    }
    for (const call of plan.dense) {
      await this.#step(shrink(call, count), options, control);
      this.#keep(shrink(call, count), batch, start, options, results);
    }
  }

  #writeInput(input: TensorData, start: number, first: number, images: number, plan: Plan): void {
    const size = input.data.length / (input.shape[0] as number);
    const values = input.data.subarray((start + first) * size, (start + first + images) * size);
    const to = plan.spatial[0]?.input;
    // Without spatial layers the input is the classifier's.
    if (to) this.#heap.f32.set(values, this.#heap.addressOf(to) / BYTES);
    else this.#heap.f32.set(values, this.#heap.addressOf(plan.classifierInput as PlacedValue) / BYTES + first * size);
  }

  /** Moves a chunk's result to its images' part of the classifier's input. */
  #collect(plan: Plan, first: number, images: number): void {
    const from = plan.spatial.at(-1)?.output;
    if (!from || !plan.classifierInput) return;
    const size = numel(from.shape.slice(1));
    const at = this.#heap.addressOf(from) / BYTES;
    this.#heap.f32.copyWithin(
      this.#heap.addressOf(plan.classifierInput) / BYTES + first * size,
      at,
      at + images * size,
    );
  }

  /** Copies a requested result out of the arena before the next step may overwrite it. */
  #keep(call: KernelCall, batch: number, first: number, options: RunOptions, results: Map<string, TensorData>): void {
    const { output, names } = call;
    for (const name of names) {
      if (!options.outputs.includes(name)) continue;
      const shape = [batch, ...output.shape.slice(1)];
      const result = results.get(name) ?? { data: allocate(shape), shape };
      results.set(name, result);
      const size = numel(output.shape.slice(1));
      const out = result.data.subarray(first * size, (first + (output.shape[0] as number)) * size);
      readValue(this.#heap.f32, this.#heap.addressOf(output), output, out);
    }
  }

  async #step(call: KernelCall, options: RunOptions, control: RunControl): Promise<void> {
    if (control.aborted()) throw new VGGNetError('ABORTED', 'Stopped by the AbortSignal');
    const start = performance.now();
    this.#operations.compute(call, options);
    control.onStep({ ...describe(call), ms: performance.now() - start });
    await control.pause();
  }
}

/** The name and algorithm of a call, for a profile. */
function describe({ step, winograd, int8, names, output }: KernelCall): Omit<StepTime, 'ms'> {
  if (!step) return { name: `to ${output.layout}`, algorithm: '' };
  const algorithm = winograd ? `winograd${winograd.size}` : int8 ? 'int8' : 'direct';
  return { name: stepLabel(step, names), algorithm: step.layer.op === 'conv2d' ? algorithm : '' };
}

/** A call for the first `images` images of its chunk. */
function shrink(call: KernelCall, images: number): KernelCall {
  if (call.input.shape[0] === images) return call;
  const first = (value: PlacedValue): PlacedValue => ({ ...value, shape: [images, ...value.shape.slice(1)] });
  return { ...call, input: first(call.input), output: first(call.output) };
}

/** Copies a value out of `memory` into (N, C, H, W) order. */
function readValue(memory: Float32Array, address: number, value: Value, out: Float32Array): void {
  const base = address / BYTES;
  if (value.layout === 'nchw') {
    out.set(memory.subarray(base, base + out.length));
    return;
  }
  const [n = 0, c = 0, h = 0, w = 0] = value.shape;
  const { stride } = value;
  let at = 0;
  for (let image = 0; image < n; image++) {
    for (let channel = 0; channel < c; channel++) {
      for (let y = 0; y < h; y++) {
        let from = base + ((image * (h + 2) + y + 1) * (w + 2) + 1) * stride + channel;
        for (let x = 0; x < w; x++) {
          out[at++] = memory[from] as number;
          from += stride;
        }
      }
    }
  }
}
