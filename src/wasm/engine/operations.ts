import type { RunOptions } from '../../backend.js';
import { dropoutBase, dropoutScale, dropoutThreshold } from '../../program/dropout.js';
import type { Step } from '../../program/fuse.js';
import { type BatchNorm2d, type Conv2d, type Layer, type Linear, usesBatchStatistics } from '../../program/layers.js';
import { checkStatistics } from '../../program/shape.js';
import { numel } from '../../tensor.js';
import type { Kernels } from '../kernels.js';
import { tileCount } from '../plan/algorithm.js';
import {
  CONV2D_INT8,
  CONVOLUTION,
  EPILOGUE,
  LINEAR,
  MAX_POOL2D,
  type StructValues,
  WINOGRAD,
  writeStruct,
} from '../plan/args.js';
import { BYTES, valueBytes } from '../plan/layout.js';
import { EXPANDED, SCRATCH } from '../plan/memory.js';
import type { KernelCall, PlacedValue, Winograd } from '../plan/plan.js';
import type { Heap } from './heap.js';
import type { Parameters } from './parameters.js';

/** The buffers of all kernels, by their addresses, and the number of threads that run them. */
export interface KernelBuffers {
  readonly control: number;
  /** For an operation's argument struct. */
  readonly args: number;
  readonly scratch: number;
  readonly threads: number;
}

/** Runs the calls of a plan: each is one kernel with its arguments. */
export class Operations {
  readonly #heap: Heap;
  readonly #kernels: Kernels;
  readonly #layers: readonly Layer[];
  readonly #parameters: Parameters;
  readonly #buffers: KernelBuffers;
  /** Changes to running statistics, which are applied when the forward is complete. */
  #updates: (() => void)[] = [];
  /** Batch norm's folded scales are not those of the current running statistics. */
  #stale = true;

  constructor(heap: Heap, kernels: Kernels, layers: readonly Layer[], parameters: Parameters, buffers: KernelBuffers) {
    this.#heap = heap;
    this.#kernels = kernels;
    this.#layers = layers;
    this.#parameters = parameters;
    this.#buffers = buffers;
  }

  /** Call before a forward. */
  begin(mode: RunOptions['mode']): void {
    if (mode === 'eval' && this.#stale) this.#foldAll();
    this.#updates = [];
  }

  /** Call after it. */
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
        this.parallel(kernels.MAX_POOL2D, [MAX_POOL2D], {
          input: from,
          output: to,
          images: n,
          height: h,
          width: w,
          stride: input.stride,
        });
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
        const base = dropoutBase(options.seed, index);
        kernels.dropout(from, numel(input.shape), base, dropoutThreshold(layer.p), dropoutScale(layer.p));
        break;
      }
      case 'softmax':
        kernels.softmax(from, to, n, c);
        break;
      case 'flatten':
        break;
    }
  }

  #conv2d(layer: Conv2d, step: Step, { input, output, winograd, int8, pool, workspace: offset }: KernelCall): void {
    const kernels = this.#kernels;
    const { weight, weightScales, transformed, scale, bias } = this.#parameters.conv(step.index);
    // Its own, or those of the batch norm that is folded into it.
    const norm = step.batchNorm ? this.#parameters.norm(step.index + 1) : { scale, shift: bias };
    const [images = 0, , height = 0, width = 0] = input.shape;
    const workspace = this.#heap.arena + offset;
    const common = {
      scale: norm.scale,
      shift: norm.shift,
      relu: Number(step.relu),
      outChannels: layer.outChannels,
      input: this.#heap.addressOf(input),
      output: this.#heap.addressOf(output),
      weights: weight,
      pool: Number(pool),
      images,
      height,
      width,
      inStride: input.stride,
      outStride: output.stride,
      scratch: this.#buffers.scratch,
    };
    if (winograd) {
      this.parallel(kernels.WINOGRAD, [EPILOGUE, CONVOLUTION, WINOGRAD], {
        ...common,
        ...winogradArgs(winograd, input.shape),
        weights: transformed as number,
        direct: weight,
        workspace,
      });
    } else if (int8) {
      this.parallel(kernels.CONV2D_INT8, [EPILOGUE, CONVOLUTION, CONV2D_INT8], {
        ...common,
        weightScales: weightScales as number,
        maxima: workspace,
        bytes: workspace + int8.maxima,
        range: layer.inputRange ?? 0,
      });
    } else {
      this.parallel(kernels.CONV2D, [EPILOGUE, CONVOLUTION], common);
    }
  }

  /** @param digits the address of the workspace of an integer layer; 0 computes in float32 */
  #linear(layer: Linear, { index, relu }: Step, input: PlacedValue, output: PlacedValue, digits = 0): void {
    const { weight, kind, scales, bias } = this.#parameters.linear(index);
    const { inFeatures, outFeatures } = layer;
    const images = input.shape[0] as number;
    // Of its scratch the kernel uses four vectors of sums per image, and four rows of weights.
    const most = Math.floor((SCRATCH - EXPANDED) / 64);
    for (let first = 0; first < images; first += most) {
      this.parallel(this.#kernels.LINEAR, [LINEAR], {
        input: this.#heap.addressOf(input) + first * inFeatures * BYTES,
        output: this.#heap.addressOf(output) + first * outFeatures * BYTES,
        weights: weight,
        bias,
        relu: Number(relu),
        batch: Math.min(most, images - first),
        inFeatures,
        outFeatures,
        scratch: this.#buffers.scratch,
        kind,
        scales,
        digits,
      });
    }
  }

  #batchNorm2d(layer: BatchNorm2d, { index, relu }: Step, value: PlacedValue, mode: 'eval' | 'train'): void {
    const slots = this.#parameters.norm(index);
    const at = this.#heap.addressOf(value);
    const [n = 0, , h = 0, w = 0] = value.shape;
    if (usesBatchStatistics(layer, mode)) {
      checkStatistics(layer, value.shape);
      // They are overwritten by the scale and shift that they become.
      const mean = slots.scale;
      const variance = slots.shift;
      this.#kernels.batchStatistics(at, n, h, w, value.stride, mean, variance);
      this.#updates.push(this.#parameters.updateStatistics(slots, layer, mean, variance, n * h * w));
      this.#parameters.foldBatchNorm(slots, layer, mean, variance);
      this.#stale = true;
    } else {
      this.#parameters.foldBatchNorm(slots, layer, slots.runningMean, slots.runningVar);
      this.#stale = true;
    }
    this.#kernels.affine2d(at, n, h, w, value.stride, slots.scale, slots.shift, Number(relu));
  }

  /** Writes the epilogue of every convolution that batch norm follows. */
  #foldAll(): void {
    for (const [index, layer] of this.#layers.entries()) {
      const before = this.#layers[index - 1];
      if (layer.op !== 'batchNorm2d' || before?.op !== 'conv2d') continue;
      const slots = this.#parameters.norm(index);
      const { bias } = this.#parameters.conv(index - 1);
      this.#parameters.foldBatchNorm(slots, layer, slots.runningMean, slots.runningVar, bias);
    }
    this.#stale = false;
  }

  /** Runs an operation on all threads. */
  parallel<Description extends string>(
    operation: WebAssembly.Global,
    descriptions: readonly Description[],
    values: StructValues<Description>,
  ): void {
    const { args, control, threads } = this.#buffers;
    writeStruct(this.#heap.memory, args, descriptions, values);
    this.#kernels.parallel(operation.value, args, control, threads);
  }
}

/** The arguments of Winograd's method for an input of a shape, without addresses. */
export function winogradArgs(
  { size, block, together, workspace }: Winograd,
  shape: readonly number[],
): Omit<StructValues<typeof WINOGRAD>, 'direct' | 'workspace'> {
  const [images = 0, , height = 0, width = 0] = shape;
  const { threadBytes, inPoint, outPoint } = workspace;
  const tiles = tileCount(size, images, height, width);
  return { size, block, tiles, together: Number(together), threadBytes, inPoint, outPoint };
}
