import type { ParameterChunk, Program, RunOptions, StepTime } from '../backend.js';
import { dropoutScale, dropoutThreshold } from '../dropout.js';
import { VGGNetError } from '../errors.js';
import type { Step } from '../fuse.js';
import type { BatchNorm2d, Conv2d, Layer, Linear } from '../layers.js';
import { allocate, formatShape, numel, type TensorData } from '../tensor.js';
import { type Int8Workspace, tileCount } from './convolution.js';
import { Heap } from './heap.js';
import { instantiateKernels, type Kernels } from './kernels.js';
import { BYTES, readValue, valueBytes } from './layout.js';
import { ARGUMENT_BYTES, CONTROL, chooseForms, EXPANDED, type MemoryOptions, SCRATCH } from './memory.js';
import { Parameters } from './parameters.js';
import { type Call, makePlan, type Placed, type Plan, type Planner, type Winograd } from './plan.js';

/** Plans kept for input shapes seen lately. */
const MAX_PLANS = 8;

/**
 * How an engine is to be made. `threads` is how many compute: the one that it lives on, and `threads` − 1 that run
 * `helper` on the engine's memory.
 */
export type EngineOptions = MemoryOptions;

/** What a helper thread needs to know of an engine. */
export interface Team {
  readonly memory: WebAssembly.Memory;
  /** The address of the control block, whose first word says that the team is given up, and its length. */
  readonly control: number;
  readonly bytes: number;
}

/** A run of the engine that is stopped between two steps when `aborted` says so. */
export interface RunControl {
  /** Resolves when other work of this thread has had its turn. */
  readonly pause: () => Promise<void>;
  readonly aborted: () => boolean;
  readonly onStep: (time: StepTime) => void;
}

/**
 * One program with its parameters in one WebAssembly memory. It computes on the thread that it lives on: a worker,
 * or the caller's own where there are none. One run at a time.
 */
export class Engine {
  readonly #heap: Heap;
  readonly #kernels: Kernels;
  readonly #layers: readonly Layer[];
  readonly #parameters: Parameters;
  readonly #planner: Planner;
  readonly #plans = new Map<string, Plan>();
  readonly #threads: number;
  readonly #control: number;
  readonly #args: number;
  readonly #scratch: number;
  /** Running statistics of the forward in progress, which it changes when it is complete. */
  #updates: (() => void)[] = [];
  /** Batch norm's folded scales do not hold the running statistics as they are now. */
  #stale = true;

  private constructor(heap: Heap, kernels: Kernels, program: Program, options: EngineOptions) {
    this.#heap = heap;
    this.#kernels = kernels;
    this.#layers = program.layers;
    this.#threads = options.threads;
    this.#control = heap.keep(CONTROL);
    heap.i32.fill(0, this.#control / 4, (this.#control + CONTROL) / 4);
    this.#args = heap.keep(ARGUMENT_BYTES);
    this.#scratch = heap.keep(SCRATCH * options.threads);
    const forms = chooseForms(program, options);
    this.#parameters = new Parameters(heap, kernels, program.layers, forms);
    this.#planner = {
      layers: program.layers,
      forms,
      forced: typeof options.winograd === 'number',
      int8: options.int8,
      threads: options.threads,
      arenaLimit: heap.limit - heap.arena,
    };
  }

  /**
   * @param memory of an engine of the same program and options that is gone; its parameters are taken over, so that
   * none is written
   * @throws VGGNetError `OUT_OF_MEMORY` if the parameters do not fit
   */
  static async create(
    module: WebAssembly.Module,
    program: Program,
    options: EngineOptions,
    memory?: WebAssembly.Memory,
  ): Promise<Engine> {
    const heap = new Heap({ shared: options.threads > 1, limit: options.memoryLimit, memory });
    return new Engine(heap, await instantiateKernels(module, heap.memory), program, options);
  }

  get team(): Team {
    return { memory: this.#heap.memory, control: this.#control, bytes: CONTROL };
  }

  writeParameter(chunk: ParameterChunk): void {
    this.#parameters.write(chunk);
  }

  /** Call once after the last `writeParameter`. */
  finishParameters(): void {
    this.#parameters.finish();
  }

  readParameter(name: string): Float32Array {
    return this.#parameters.read(name);
  }

  /** Computes the outputs asked for; the input's shape has been checked. */
  async run(input: TensorData, options: RunOptions, control: RunControl): Promise<TensorData[]> {
    if (options.outputs.length === 0) return [];
    const plan = this.#plan(input.shape, options);
    this.#heap.reserveArena(plan.arenaBytes);
    if (options.mode === 'eval' && this.#stale) this.#foldAll();
    const results = new Map<string, TensorData>();
    this.#updates = [];
    const batch = input.shape[0] as number;
    for (let first = 0; first < batch; first += plan.batch) {
      await this.#pass(input, first, Math.min(plan.batch, batch - first), plan, options, control, results);
    }
    for (const update of this.#updates.splice(0)) update();
    return options.outputs.map((name) => results.get(name) as TensorData);
  }

  /** Takes `count` images from number `start` on through the network. */
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
      // A last chunk with fewer images leaves the others' places as they are.
      this.#writeInput(input, start, first, images, plan);
      for (const call of plan.spatial) {
        await this.#step(shrink(call, images), options, control);
        this.#keep(shrink(call, images), batch, start + first, options, results);
      }
      this.#join(plan, first, images);
    }
    for (const call of plan.dense) {
      await this.#step(shrink(call, count), options, control);
      this.#keep(shrink(call, count), batch, start, options, results);
    }
  }

  #plan(shape: readonly number[], options: RunOptions): Plan {
    const key = JSON.stringify([shape, options.outputs, options.mode]);
    let plan = this.#plans.get(key);
    if (!plan) {
      plan = makePlan(this.#planner, shape, options);
      this.#plans.set(key, plan);
      const oldest = this.#plans.keys().next().value as string;
      if (this.#plans.size > MAX_PLANS) this.#plans.delete(oldest);
    }
    return plan;
  }

  #address(value: Placed): number {
    return this.#heap.arena + value.offset;
  }

  #writeInput(input: TensorData, start: number, first: number, images: number, plan: Plan): void {
    const size = input.data.length / (input.shape[0] as number);
    const values = input.data.subarray((start + first) * size, (start + first + images) * size);
    const to = plan.spatial[0]?.input;
    // Without spatial layers the input is what the dense ones read.
    if (to) this.#heap.f32.set(values, this.#address(to) / BYTES);
    else this.#heap.f32.set(values, this.#address(plan.joint as Placed) / BYTES + first * size);
  }

  /** Moves a chunk's result to its images' place in what the dense layers read. */
  #join(plan: Plan, first: number, images: number): void {
    const from = plan.spatial.at(-1)?.output;
    if (!from || !plan.joint) return;
    const size = numel(from.shape.slice(1));
    const at = this.#address(from) / BYTES;
    this.#heap.f32.copyWithin(this.#address(plan.joint) / BYTES + first * size, at, at + images * size);
  }

  /** Copies a result that was asked for out of the arena, before the next step may write over it. */
  #keep(call: Call, batch: number, first: number, options: RunOptions, results: Map<string, TensorData>): void {
    const { output, names } = call;
    for (const name of names) {
      if (!options.outputs.includes(name)) continue;
      const shape = [batch, ...output.shape.slice(1)];
      const result = results.get(name) ?? { data: allocate(shape), shape };
      results.set(name, result);
      const size = numel(output.shape.slice(1));
      const out = result.data.subarray(first * size, (first + (output.shape[0] as number)) * size);
      readValue(this.#heap.f32, this.#address(output), output, out);
    }
  }

  async #step(call: Call, options: RunOptions, control: RunControl): Promise<void> {
    if (control.aborted()) throw new VGGNetError('ABORTED', 'Stopped by the AbortSignal');
    const start = performance.now();
    this.#compute(call, options);
    control.onStep({ ...describe(call), ms: performance.now() - start });
    await control.pause();
  }

  #compute({ step, input, output, winograd, int8, pool, workspace }: Call, options: RunOptions): void {
    const from = this.#address(input);
    const to = this.#address(output);
    const [n = 0, c = 0, h = 0, w = 0] = input.shape;
    const kernels = this.#kernels;
    if (output.layout === 'nhwc' && from !== to) {
      const [, , outHeight = 0, outWidth = 0] = output.shape;
      kernels.clearBorder(to, n, outHeight, outWidth, output.stride);
    }
    if (!step) {
      if (output.layout === 'nhwc') kernels.toPaddedNHWC(from, to, n, c, h, w, output.stride);
      else kernels.toNCHW(from, to, n, c, h, w, input.stride);
      return;
    }
    const { layer, index } = step;
    switch (layer.op) {
      case 'conv2d':
        if (winograd) this.#winograd(layer, step, winograd, pool, input, output, workspace);
        else if (int8) this.#conv2dInt8(layer, step, int8, pool, input, output, workspace);
        else this.#conv2d(layer, step, pool, input, output);
        break;
      case 'batchNorm2d':
        this.#batchNorm2d(layer, step, input, options.mode);
        break;
      case 'maxPool2d':
        this.#parallel(kernels.MAX_POOL2D, [from, to, n, h, w, input.stride]);
        break;
      case 'adaptiveAvgPool2d':
        kernels.adaptiveAvgPool2d(from, to, n, c, h, w, input.stride, layer.outputSize);
        break;
      case 'relu':
        kernels.relu(from, valueBytes(input) / BYTES);
        break;
      case 'linear':
        this.#linear(layer, step, input, output, int8 && this.#heap.arena + workspace);
        break;
      case 'dropout': {
        const scale = dropoutScale(layer.p);
        kernels.dropout(from, numel(input.shape), options.seed, index, dropoutThreshold(layer.p), scale);
        break;
      }
      case 'softmax':
        kernels.softmax(from, to, n, c);
        break;
      case 'flatten':
        break;
    }
  }

  #conv2d(layer: Conv2d, { index, batchNorm, relu }: Step, pool: boolean, input: Placed, output: Placed): void {
    const { weight, bias, scale } = this.#parameters.conv(index);
    const folded = batchNorm && this.#parameters.norm(index + 1);
    const [n = 0, , h = 0, w = 0] = input.shape;
    this.#parallel(this.#kernels.CONV2D, [
      this.#address(input),
      this.#address(output),
      weight,
      folded?.scale ?? scale,
      folded?.shift ?? bias,
      Number(relu),
      h,
      w,
      input.stride,
      layer.outChannels,
      output.stride,
      this.#scratch,
      n * h * w,
      Number(pool),
    ]);
  }

  #conv2dInt8(
    layer: Conv2d,
    { index, batchNorm, relu }: Step,
    { maxima }: Int8Workspace,
    pool: boolean,
    input: Placed,
    output: Placed,
    at: number,
  ): void {
    const { weight, weightScales, bias, scale } = this.#parameters.conv(index);
    const folded = batchNorm && this.#parameters.norm(index + 1);
    const [n = 0, , h = 0, w = 0] = input.shape;
    const workspace = this.#heap.arena + at;
    this.#parallel(this.#kernels.CONV2D_INT8, [
      this.#address(input),
      this.#address(output),
      weight,
      weightScales as number,
      folded?.scale ?? scale,
      folded?.shift ?? bias,
      Number(relu),
      Number(pool),
      h,
      w,
      input.stride,
      layer.outChannels,
      output.stride,
      n,
      this.#scratch,
      workspace,
      workspace + maxima,
      floatBits(layer.inputRange ?? 0),
    ]);
  }

  #winograd(
    layer: Conv2d,
    { index, batchNorm, relu }: Step,
    winograd: Winograd,
    pool: boolean,
    input: Placed,
    output: Placed,
    at: number,
  ): void {
    const { size, block, together, workspace } = winograd;
    const { weight, bias, scale, transformed } = this.#parameters.conv(index);
    const folded = batchNorm && this.#parameters.norm(index + 1);
    const [n = 0, , h = 0, w = 0] = input.shape;
    this.#parallel(this.#kernels.WINOGRAD, [
      this.#address(input),
      this.#address(output),
      transformed as number,
      weight,
      folded?.scale ?? scale,
      folded?.shift ?? bias,
      Number(relu),
      Number(pool),
      h,
      w,
      input.stride,
      layer.outChannels,
      output.stride,
      this.#scratch,
      this.#heap.arena + at,
      size,
      block,
      tileCount(size, n, h, w),
      Number(together),
      workspace.own,
      workspace.inPlace,
      workspace.outPlace,
    ]);
  }

  /** @param digits the address of a workspace in which it runs in whole numbers */
  #linear(layer: Linear, { index, relu }: Step, input: Placed, output: Placed, digits = 0): void {
    const { weight, kind, scales, bias } = this.#parameters.linear(index);
    const { inFeatures, outFeatures } = layer;
    const batch = input.shape[0] as number;
    // The kernel keeps four vectors of sums for each row in the scratch, and four rows of weights.
    const most = Math.floor((SCRATCH - EXPANDED) / 64);
    for (let row = 0; row < batch; row += most) {
      const from = this.#address(input) + row * inFeatures * BYTES;
      const to = this.#address(output) + row * outFeatures * BYTES;
      const rows = Math.min(most, batch - row);
      this.#parallel(this.#kernels.LINEAR, [
        from,
        to,
        weight,
        bias,
        Number(relu),
        rows,
        inFeatures,
        outFeatures,
        this.#scratch,
        kind,
        scales,
        digits,
      ]);
    }
  }

  #batchNorm2d(layer: BatchNorm2d, { index, relu }: Step, value: Placed, mode: 'eval' | 'train'): void {
    const slots = this.#parameters.norm(index);
    const at = this.#address(value);
    const [n = 0, , h = 0, w = 0] = value.shape;
    if (mode === 'train') {
      if (n * h * w === 1) {
        throw new VGGNetError(
          'INVALID_SHAPE',
          `${layer.name}: expected more than 1 value per channel when training, got ${formatShape(value.shape)}`,
        );
      }
      // The scale and shift that they become take their place.
      const mean = slots.scale;
      const variance = slots.shift;
      this.#kernels.batchStatistics(at, n, h, w, value.stride, mean, variance);
      this.#updates.push(this.#parameters.updateStatistics(slots, layer.channels, mean, variance, n * h * w));
      this.#parameters.foldBatchNorm(slots, layer.channels, mean, variance);
      this.#stale = true;
    } else {
      this.#parameters.foldBatchNorm(slots, layer.channels, slots.runningMean, slots.runningVar);
      this.#stale = true;
    }
    this.#kernels.affine2d(at, n, h, w, value.stride, slots.scale, slots.shift, Number(relu));
  }

  /** Writes the epilogue of every convolution that has batch norm after it. */
  #foldAll(): void {
    for (const [index, layer] of this.#layers.entries()) {
      const before = this.#layers[index - 1];
      if (layer.op !== 'batchNorm2d' || before?.op !== 'conv2d') continue;
      const slots = this.#parameters.norm(index);
      const { bias } = this.#parameters.conv(index - 1);
      this.#parameters.foldBatchNorm(slots, layer.channels, slots.runningMean, slots.runningVar, bias);
    }
    this.#stale = false;
  }

  /** Runs an operation on all threads, with the words of its argument struct. */
  #parallel(operation: WebAssembly.Global, words: readonly number[]): void {
    this.#heap.i32.set(words, this.#args / 4);
    this.#kernels.parallel(operation.value, this.#args, this.#control, this.#threads);
  }
}

/** A float32 as the word of an argument struct. */
function floatBits(value: number): number {
  return new Int32Array(Float32Array.of(value).buffer)[0] as number;
}

/** What a call does, for a profile. */
function describe({ step, winograd, int8, names, output }: Call): Omit<StepTime, 'ms'> {
  if (!step) return { name: `to ${output.layout}`, algorithm: '' };
  const { layer } = step;
  const fused = names.filter((name) => name !== layer.name);
  const form = winograd ? `winograd${winograd.size}` : int8 ? 'int8' : 'direct';
  const algorithm = layer.op === 'conv2d' ? form : '';
  return { name: [layer.name, ...fused].join('+'), algorithm };
}

/** A call for the first `images` images of its chunk. */
function shrink(call: Call, images: number): Call {
  if (call.input.shape[0] === images) return call;
  const first = (value: Placed): Placed => ({ ...value, shape: [images, ...value.shape.slice(1)] });
  return { ...call, input: first(call.input), output: first(call.output) };
}
