import type { RunOptions } from '../../backend.js';
import { VGGNetError } from '../../errors.js';
import { dropoutScale, dropoutThreshold } from '../../program/dropout.js';
import type { Step } from '../../program/fuse.js';
import { type BatchNorm2d, type Conv2d, type Layer, type Linear, usesBatchStatistics } from '../../program/layers.js';
import { formatShape, numel } from '../../tensor.js';
import type { Kernels } from '../kernels.js';
import { tileCount } from '../plan/algorithm.js';
import { BYTES, valueBytes } from '../plan/layout.js';
import { EXPANDED, SCRATCH } from '../plan/memory.js';
import type { KernelCall, PlacedValue } from '../plan/plan.js';
import type { Heap } from './heap.js';
import type { Parameters } from './parameters.js';

/** Addresses that kernels share, and how many threads run them. */
export interface KernelBuffers {
  readonly control: number;
  /** Of an operation's arguments. */
  readonly args: number;
  readonly scratch: number;
  readonly threads: number;
}

/** The calls of a plan, each as one of the kernels with its arguments. */
export class Operations {
  readonly #heap: Heap;
  readonly #kernels: Kernels;
  readonly #layers: readonly Layer[];
  readonly #parameters: Parameters;
  readonly #places: KernelBuffers;
  /** Running statistics of the forward in progress, which it changes when it is complete. */
  #updates: (() => void)[] = [];
  /** Batch norm's folded scales do not hold the running statistics as they are now. */
  #stale = true;

  constructor(heap: Heap, kernels: Kernels, layers: readonly Layer[], parameters: Parameters, places: KernelBuffers) {
    this.#heap = heap;
    this.#kernels = kernels;
    this.#layers = layers;
    this.#parameters = parameters;
    this.#places = places;
  }

  /** Before the calls of a forward. */
  begin(mode: RunOptions['mode']): void {
    if (mode === 'eval' && this.#stale) this.#foldAll();
    this.#updates = [];
  }

  /** After all of them. */
  complete(): void {
    for (const update of this.#updates.splice(0)) update();
  }

  /** Runs the kernel of one call. */
  compute(call: KernelCall, options: RunOptions): void {
    const { step, input, output, int8, workspace } = call;
    const from = this.#heap.addressOf(input);
    const to = this.#heap.addressOf(output);
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
        this.#conv2d(layer, step, call);
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

  #conv2d(layer: Conv2d, step: Step, { input, output, winograd, int8, pool, workspace: at }: KernelCall): void {
    const kernels = this.#kernels;
    const { scratch } = this.#places;
    const { weight, weightScales, transformed, scale, bias } = this.#parameters.conv(step.index);
    // Its own, or those of the batch norm that is folded into it.
    const norm = step.batchNorm ? this.#parameters.norm(step.index + 1) : { scale, shift: bias };
    const ends = [this.#heap.addressOf(input), this.#heap.addressOf(output)];
    const epilogue = [norm.scale, norm.shift, Number(step.relu)];
    const [n = 0, , h = 0, w = 0] = input.shape;
    const sizes = [h, w, input.stride, layer.outChannels, output.stride];
    const workspace = this.#heap.arena + at;
    if (winograd) {
      const { size, block, together, workspace: parts } = winograd;
      this.#parallel(kernels.WINOGRAD, [
        ...ends,
        transformed as number,
        weight,
        ...epilogue,
        Number(pool),
        ...sizes,
        scratch,
        workspace,
        size,
        block,
        tileCount(size, n, h, w),
        Number(together),
        parts.threadBytes,
        parts.inPoint,
        parts.outPoint,
      ]);
    } else if (int8) {
      this.#parallel(kernels.CONV2D_INT8, [
        ...ends,
        weight,
        weightScales as number,
        ...epilogue,
        Number(pool),
        ...sizes,
        n,
        scratch,
        workspace,
        workspace + int8.maxima,
        floatBits(layer.inputRange ?? 0),
      ]);
    } else {
      this.#parallel(kernels.CONV2D, [...ends, weight, ...epilogue, ...sizes, scratch, n * h * w, Number(pool)]);
    }
  }

  /** @param digits the address of a workspace in which it runs in whole numbers */
  #linear(layer: Linear, { index, relu }: Step, input: PlacedValue, output: PlacedValue, digits = 0): void {
    const { weight, kind, scales, bias } = this.#parameters.linear(index);
    const { inFeatures, outFeatures } = layer;
    const batch = input.shape[0] as number;
    // The kernel keeps four vectors of sums for each row in the scratch, and four rows of weights.
    const most = Math.floor((SCRATCH - EXPANDED) / 64);
    for (let row = 0; row < batch; row += most) {
      const from = this.#heap.addressOf(input) + row * inFeatures * BYTES;
      const to = this.#heap.addressOf(output) + row * outFeatures * BYTES;
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
        this.#places.scratch,
        kind,
        scales,
        digits,
      ]);
    }
  }

  #batchNorm2d(layer: BatchNorm2d, { index, relu }: Step, value: PlacedValue, mode: 'eval' | 'train'): void {
    const slots = this.#parameters.norm(index);
    const at = this.#heap.addressOf(value);
    const [n = 0, , h = 0, w = 0] = value.shape;
    if (usesBatchStatistics(layer, mode)) {
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
    const { args, control, threads } = this.#places;
    this.#heap.i32.set(words, args / 4);
    this.#kernels.parallel(operation.value, args, control, threads);
  }
}

/** A float32 as the word of an argument struct. */
function floatBits(value: number): number {
  return new Int32Array(Float32Array.of(value).buffer)[0] as number;
}
