import type { RunOptions } from '../../backend.js';
import { dropoutBase, dropoutScale, dropoutThreshold } from '../../program/dropout.js';
import type { ReluRule } from '../../program/gradient.js';
import { type BatchNorm2d, type Conv2d, type Layer, type Linear, usesBatchStatistics } from '../../program/layers.js';
import { numel } from '../../tensor.js';
import { tileCount } from '../plan/algorithm.js';
import { CONVOLUTION, EPILOGUE, LINEAR, type StructValues, WINOGRAD, writeStruct } from '../plan/args.js';
import {
  BATCH_NORM2D_BACKWARD,
  CHANNEL_SUMS,
  CONV2D_WEIGHT_GRADIENT,
  ELEMENTWISE_BACKWARD,
  FLIP_CONV2D,
  LINEAR_BACKWARD,
  MAX_POOL2D_ARGMAX,
} from '../plan/args-backward.js';
import { align, BYTES, type Value, valueBytes } from '../plan/layout.js';
import type { PlacedValue } from '../plan/plan.js';
import { flippedParts, gradientValue, type TapeLayer, type TapePlan } from '../plan/tape.js';
import type { EngineParts } from './engine.js';
import type { Gradients } from './gradients.js';

/** A gradient in one of the two buffers. */
export interface Gradient {
  readonly value: Value;
  readonly buffer: 0 | 1;
  /**
   * The gradient of a ReLU's output that a max-pool follows: it lies here as that of the pool's output, with the pool's
   * index, and is spread over the windows when it has passed the ReLU.
   */
  readonly pooled?: number | undefined;
}

/** The kernels of the backward pass, an operation a method. */
export class BackwardOperations {
  readonly #parts: EngineParts;
  readonly #gradients: Gradients;
  #plan: TapePlan = { steps: [], layers: [], gradients: [0, 0], workspace: 0, arenaBytes: 0 };
  #options: RunOptions = { outputs: [], mode: 'eval', seed: 0 };
  #reluRule: ReluRule = 'standard';

  constructor(parts: EngineParts, gradients: Gradients) {
    this.#parts = parts;
    this.#gradients = gradients;
  }

  begin(plan: TapePlan, options: RunOptions, reluRule: ReluRule): void {
    this.#plan = plan;
    this.#options = options;
    this.#reluRule = reluRule;
  }

  copy(from: PlacedValue, to: PlacedValue): void {
    const { heap } = this.#parts;
    const start = heap.addressOf(from) / BYTES;
    heap.f32.copyWithin(heap.addressOf(to) / BYTES, start, start + valueBytes(from) / BYTES);
  }

  maxPool2dArgmax(input: PlacedValue, output: PlacedValue, argmax: number): void {
    const { heap, kernels } = this.#parts;
    const [n = 0, , h = 0, w = 0] = output.shape;
    kernels.clearBorder(heap.addressOf(output), n, h, w, output.stride);
    this.#pool('MAX_POOL2D_ARGMAX', input, heap.addressOf(input), heap.addressOf(output), argmax);
  }

  /** Where a gradient is, to be read; one that waits for its ReLU is spread first. */
  read(gradient: Gradient): PlacedValue {
    const { value, buffer } = gradient.pooled === undefined ? gradient : this.#spread(gradient, gradient.pooled);
    return { ...value, offset: this.#plan.gradients[buffer], outside: false };
  }

  /** The gradient in another layout, or in another shape of the same one. */
  convert(gradient: Gradient, to: Value): Gradient {
    const { value, buffer } = gradient;
    if (gradient.pooled !== undefined) return gradient;
    if (value.layout === to.layout) return { value: to, buffer };
    const { kernels } = this.#parts;
    const other = opposite(buffer);
    const [from, target] = [this.#address(buffer), this.#address(other)];
    const [n = 0, c = 0, h = 0, w = 0] = value.shape;
    if (to.layout === 'nhwc') {
      kernels.clearBorder(target, n, h, w, to.stride);
      kernels.toPaddedNHWC(from, target, n, c, h, w, to.stride);
    } else {
      kernels.toNCHW(from, target, n, c, h, w, value.stride);
    }
    return { value: to, buffer: other };
  }

  /** Adds a cotangent of the caller's to the gradient of a value, if there is one. */
  addCotangent(gradient: Gradient | undefined, value: Value, data: Float32Array): Gradient {
    const { heap, kernels } = this.#parts;
    const buffer = gradient ? opposite(gradient.buffer) : 0;
    const target = this.#address(buffer);
    if (value.layout === 'nchw') {
      heap.f32.set(data, target / BYTES);
    } else {
      const staged = heap.arena + this.#plan.workspace;
      const [n = 0, c = 0, h = 0, w = 0] = value.shape;
      heap.f32.set(data, staged / BYTES);
      kernels.clearBorder(target, n, h, w, value.stride);
      kernels.toPaddedNHWC(staged, target, n, c, h, w, value.stride);
    }
    if (!gradient) return { value, buffer };
    this.#elementwise('ADD_GRADIENT', gradient.buffer, target, value);
    return gradient;
  }

  /** Adds to the gradients of a layer's parameters. */
  parameterGradients(layer: Layer, index: number, dy: Gradient, names: readonly string[]): void {
    const { input } = this.#layer(index);
    if (layer.op === 'conv2d') this.#conv2dParameters(layer, input, dy, names);
    if (layer.op === 'linear') this.#linearParameters(layer, input, dy, names);
    if (layer.op === 'batchNorm2d') this.#batchNorm2dParameters(layer, index, input, dy, names);
  }

  /** The gradient of a layer's input. */
  inputGradient(layer: Layer, index: number, dy: Gradient): Gradient {
    const { kernels, heap } = this.#parts;
    const tape = this.#layer(index);
    const input = gradientValue(tape.input);
    const { mode, seed } = this.#options;
    const at = this.#address(dy.buffer);
    switch (layer.op) {
      case 'conv2d':
        return this.#conv2d(layer, index, dy, input);
      case 'linear':
        return this.#linear(layer, index, dy, input);
      case 'batchNorm2d':
        this.#batchNorm2d(layer, index, dy);
        return dy;
      case 'relu':
        return this.#relu(tape, dy);
      case 'maxPool2d': {
        const before = this.#plan.layers[index - 1];
        return before?.masksPooled ? { ...dy, pooled: index } : this.#spread(dy, index);
      }
      case 'adaptiveAvgPool2d': {
        const buffer = opposite(dy.buffer);
        const [n = 0, c = 0, h = 0, w = 0] = input.shape;
        const to = this.#address(buffer);
        kernels.adaptiveAvgPool2dInputGradient(at, to, n, c, h, w, input.stride, layer.outputSize);
        return { value: input, buffer };
      }
      case 'flatten':
        return { value: input, buffer: dy.buffer };
      case 'dropout':
        if (mode === 'train') {
          const scale = dropoutScale(layer.p);
          kernels.dropout(at, numel(input.shape), dropoutBase(seed, index), dropoutThreshold(layer.p), scale);
        }
        return dy;
      case 'softmax': {
        const [rows = 0, count = 0] = input.shape;
        kernels.softmaxInputGradient(at, heap.addressOf(tape.output), rows, count);
        return dy;
      }
    }
  }

  #layer(index: number): TapeLayer {
    return this.#plan.layers[index] as TapeLayer;
  }

  #address(buffer: 0 | 1): number {
    return this.#parts.heap.arena + this.#plan.gradients[buffer];
  }

  #relu(tape: TapeLayer, dy: Gradient): Gradient {
    if (dy.pooled === undefined) {
      this.#elementwise('RELU_INPUT_GRADIENT', dy.buffer, this.#parts.heap.addressOf(tape.output), dy.value);
      return dy;
    }
    const pooled = this.#layer(dy.pooled).output;
    this.#elementwise('RELU_INPUT_GRADIENT', dy.buffer, this.#parts.heap.addressOf(pooled), dy.value);
    return this.#spread(dy, dy.pooled);
  }

  /** The gradient of a max-pool's input, in the other buffer. */
  #spread({ buffer }: Gradient, index: number): Gradient {
    const { input, argmax } = this.#layer(index);
    const other = opposite(buffer);
    this.#pool('MAX_POOL2D_INPUT_GRADIENT', input, this.#address(other), this.#address(buffer), argmax as number);
    return { value: gradientValue(input), buffer: other };
  }

  #pool(
    operation: 'MAX_POOL2D_ARGMAX' | 'MAX_POOL2D_INPUT_GRADIENT',
    { shape, stride }: Value,
    input: number,
    output: number,
    argmax: number,
  ): void {
    const { heap, kernels } = this.#parts;
    const [images = 0, , height = 0, width = 0] = shape;
    const codes = heap.arena + argmax;
    this.#parallel(kernels[operation], [MAX_POOL2D_ARGMAX], {
      input,
      output,
      argmax: codes,
      images,
      height,
      width,
      stride,
    });
  }

  #elementwise(operation: 'RELU_INPUT_GRADIENT' | 'ADD_GRADIENT', buffer: 0 | 1, values: number, value: Value): void {
    this.#parallel(this.#parts.kernels[operation], [ELEMENTWISE_BACKWARD], {
      gradient: this.#address(buffer),
      values,
      count: valueBytes(value) / BYTES,
      guided: Number(this.#reluRule === 'guided'),
    });
  }

  #conv2d(layer: Conv2d, index: number, dy: Gradient, input: Value): Gradient {
    const { heap, kernels, parameters, buffers } = this.#parts;
    const { winograd } = this.#layer(index);
    const { weight, inStride } = parameters.conv(index);
    const parts = flippedParts(layer, winograd);
    const ends = heap.arena + this.#plan.workspace;
    const flipped = ends + parts.ends;
    const transformed = flipped + parts.flipped;
    const buffer = opposite(dy.buffer);
    const [images = 0, , height = 0, width = 0] = input.shape;
    const outStride = dy.value.stride;
    heap.f32.fill(1, ends / BYTES, (ends + parts.ends / 2) / BYTES);
    heap.f32.fill(0, (ends + parts.ends / 2) / BYTES, flipped / BYTES);
    kernels.clearBorder(this.#address(dy.buffer), images, height, width, outStride);
    kernels.clearBorder(this.#address(buffer), images, height, width, input.stride);
    this.#parallel(kernels.FLIP_CONV2D, [FLIP_CONV2D], { packed: weight, flipped, inStride, outStride });
    const common = {
      scale: ends,
      shift: ends + parts.ends / 2,
      relu: 0,
      outChannels: layer.inChannels,
      input: this.#address(dy.buffer),
      output: this.#address(buffer),
      weights: flipped,
      pool: 0,
      images,
      height,
      width,
      inStride: outStride,
      outStride: input.stride,
      scratch: buffers.scratch,
    };
    if (winograd) {
      const { size, block, together } = winograd;
      const { threadBytes, inPoint, outPoint } = winograd.workspace;
      kernels.packWinograd(size, flipped, transformed, layer.inChannels, outStride, buffers.scratch);
      this.#parallel(kernels.WINOGRAD, [EPILOGUE, CONVOLUTION, WINOGRAD], {
        ...common,
        weights: transformed,
        direct: flipped,
        workspace: transformed + parts.transformed,
        size,
        block,
        tiles: tileCount(size, images, height, width),
        together: Number(together),
        threadBytes,
        inPoint,
        outPoint,
      });
    } else {
      this.#parallel(kernels.CONV2D, [EPILOGUE, CONVOLUTION], common);
    }
    return { value: input, buffer };
  }

  #conv2dParameters(layer: Conv2d, input: PlacedValue, dy: Gradient, names: readonly string[]): void {
    const { heap, kernels } = this.#parts;
    const [images = 0, , height = 0, width = 0] = input.shape;
    const weight = `${layer.path}.weight`;
    if (names.includes(weight)) {
      this.#parallel(kernels.CONV2D_WEIGHT_GRADIENT, [CONV2D_WEIGHT_GRADIENT], {
        input: heap.addressOf(input),
        gradient: this.#address(dy.buffer),
        weights: this.#gradients.addressOf(weight),
        images,
        height,
        width,
        inStride: input.stride,
        outStride: dy.value.stride,
      });
    }
    const bias = `${layer.path}.bias`;
    if (names.includes(bias)) this.#add(bias, this.#channelSums(dy).totals, layer.outChannels);
  }

  #linear(layer: Linear, index: number, dy: Gradient, input: Value): Gradient {
    const { kernels, parameters } = this.#parts;
    const buffer = opposite(dy.buffer);
    this.#parallel(kernels.LINEAR_INPUT_GRADIENT, [LINEAR_BACKWARD], {
      gradient: this.#address(dy.buffer),
      weights: parameters.linear(index).weight,
      values: this.#address(buffer),
      batch: input.shape[0] as number,
      inFeatures: layer.inFeatures,
      outFeatures: layer.outFeatures,
    });
    return { value: input, buffer };
  }

  #linearParameters(layer: Linear, input: PlacedValue, dy: Gradient, names: readonly string[]): void {
    const { heap, kernels } = this.#parts;
    const { inFeatures, outFeatures } = layer;
    const batch = input.shape[0] as number;
    const weight = `${layer.path}.weight`;
    if (names.includes(weight)) {
      this.#parallel(kernels.LINEAR_WEIGHT_GRADIENT, [LINEAR_BACKWARD], {
        gradient: this.#address(dy.buffer),
        weights: this.#gradients.addressOf(weight),
        values: heap.addressOf(input),
        batch,
        inFeatures,
        outFeatures,
      });
    }
    const bias = `${layer.path}.bias`;
    if (!names.includes(bias)) return;
    const start = this.#address(dy.buffer) / BYTES;
    const sums = new Float64Array(outFeatures);
    for (let i = 0; i < batch * outFeatures; i++) {
      sums[i % outFeatures] = (sums[i % outFeatures] as number) + (heap.f32[start + i] as number);
    }
    this.#add(bias, sums, outFeatures);
  }

  #batchNorm2dParameters(
    layer: BatchNorm2d,
    index: number,
    input: PlacedValue,
    dy: Gradient,
    names: readonly string[],
  ): void {
    const { mean, variance } = this.#statistics(layer, index);
    const { totals, products } = this.#channelSums(dy, input, mean);
    const weight = `${layer.path}.weight`;
    if (names.includes(weight)) {
      this.#add(
        weight,
        products.map((sum, c) => sum / Math.sqrt((variance[c] as number) + layer.eps)),
        layer.channels,
      );
    }
    const bias = `${layer.path}.bias`;
    if (names.includes(bias)) this.#add(bias, totals, layer.channels);
  }

  /** In place. */
  #batchNorm2d(layer: BatchNorm2d, index: number, dy: Gradient): void {
    const { heap, kernels } = this.#parts;
    const { channels } = layer;
    const { stride, shape } = dy.value;
    const [images = 0, , height = 0, width = 0] = shape;
    const batch = usesBatchStatistics(layer, this.#options.mode);
    const { input } = this.#layer(index);
    const { mean, variance } = this.#statistics(layer, index);
    const sums = batch ? this.#channelSums(dy, input, mean) : undefined;
    const count = images * height * width;
    const weights = this.#vector(this.#parts.parameters.norm(index).weight, channels);
    const vectors = this.#vectors(stride);
    for (let c = 0; c < stride; c++) {
      const inverse = c < channels ? 1 / ((variance[c] as number) + layer.eps) : 0;
      const scale = c < channels ? (weights[c] as number) * Math.sqrt(inverse) : 0;
      heap.f32[vectors.mean / BYTES + c] = mean[c] ?? 0;
      heap.f32[vectors.scale / BYTES + c] = scale;
      heap.f32[vectors.slope / BYTES + c] = sums ? (scale * (sums.products[c] as number) * inverse) / count : 0;
      heap.f32[vectors.shift / BYTES + c] = sums ? (scale * (sums.totals[c] as number)) / count : 0;
    }
    const gradient = this.#address(dy.buffer);
    if (!sums) {
      kernels.affine2d(gradient, images, height, width, stride, vectors.scale, vectors.shift, 0);
      return;
    }
    this.#parallel(kernels.BATCH_NORM2D_INPUT_GRADIENT, [BATCH_NORM2D_BACKWARD], {
      gradient,
      values: heap.addressOf(input),
      mean: vectors.mean,
      scale: vectors.scale,
      slope: vectors.slope,
      shift: vectors.shift,
      images,
      height,
      width,
      stride,
    });
  }

  /** What batch norm normalized by: the running statistics, or the batch's, which its input gives again. */
  #statistics(layer: BatchNorm2d, index: number): { mean: Float32Array; variance: Float32Array } {
    const { heap, kernels, parameters } = this.#parts;
    const { channels } = layer;
    const { input } = this.#layer(index);
    if (!usesBatchStatistics(layer, this.#options.mode)) {
      const { runningMean, runningVar } = parameters.norm(index);
      return { mean: this.#vector(runningMean, channels), variance: this.#vector(runningVar, channels) };
    }
    const [n = 0, , h = 0, w = 0] = input.shape;
    const { mean, scale: variance } = this.#vectors(input.stride);
    kernels.batchStatistics(heap.addressOf(input), n, h, w, input.stride, mean, variance);
    return { mean: this.#vector(mean, channels), variance: this.#vector(variance, channels) };
  }

  /** Σ dy of each channel, and with values Σ dy · (x − mean). */
  #channelSums(
    dy: Gradient,
    values?: PlacedValue,
    mean?: Float32Array,
  ): { totals: Float64Array; products: Float64Array } {
    const { heap, kernels } = this.#parts;
    const [images = 0, , height = 0, width = 0] = dy.value.shape;
    const { stride } = dy.value;
    const vectors = this.#vectors(stride);
    if (mean) {
      heap.f32.fill(0, vectors.mean / BYTES, vectors.mean / BYTES + stride);
      heap.f32.set(mean, vectors.mean / BYTES);
    }
    this.#parallel(kernels.CHANNEL_SUMS, [CHANNEL_SUMS], {
      gradient: this.#address(dy.buffer),
      values: values ? heap.addressOf(values) : 0,
      mean: vectors.mean,
      totals: vectors.totals,
      products: vectors.products,
      images,
      height,
      width,
      stride,
    });
    const read = (address: number): Float64Array => new Float64Array(heap.memory.buffer, address, stride).slice();
    return { totals: read(vectors.totals), products: read(vectors.products) };
  }

  /** The vectors of a step with `stride` channels in the workspace. */
  #vectors(stride: number): Record<'totals' | 'products' | 'mean' | 'scale' | 'slope' | 'shift', number> {
    const at = this.#parts.heap.arena + this.#plan.workspace;
    const after = at + 16 * stride;
    const step = stride * BYTES;
    return {
      totals: at,
      products: at + 8 * stride,
      mean: after,
      scale: after + step,
      slope: after + 2 * step,
      shift: after + 3 * step,
    };
  }

  #vector(address: number, channels: number): Float32Array {
    return this.#parts.heap.f32.slice(address / BYTES, address / BYTES + channels);
  }

  #add(name: string, sums: Float64Array, count: number): void {
    const { f32 } = this.#parts.heap;
    const at = this.#gradients.addressOf(name) / BYTES;
    for (let i = 0; i < count; i++) f32[at + i] = (f32[at + i] as number) + (sums[i] as number);
  }

  /** X Xᵀ of a matrix (rows, columns), with a workspace from `free` on. */
  gram(x: Float32Array, rows: number, columns: number, free: number): Float32Array {
    const { heap, kernels, buffers } = this.#parts;
    const bytes = { x: align(x.byteLength), out: align(rows * rows * BYTES), bias: align(rows * BYTES) };
    heap.reserveArena(free + bytes.x + bytes.out + bytes.bias);
    const at = heap.arena + free;
    const [output, bias] = [at + bytes.x, at + bytes.x + bytes.out];
    heap.f32.set(x, at / BYTES);
    heap.f32.fill(0, bias / BYTES, bias / BYTES + rows);
    // Few enough inputs for the kernel's scratch.
    const most = 256;
    for (let first = 0; first < rows; first += most) {
      this.#parallel(kernels.LINEAR, [LINEAR], {
        input: at + first * columns * BYTES,
        output: output + first * rows * BYTES,
        weights: at,
        bias,
        relu: 0,
        batch: Math.min(most, rows - first),
        inFeatures: columns,
        outFeatures: rows,
        scratch: buffers.scratch,
        kind: 0,
        scales: 0,
        digits: 0,
      });
    }
    return heap.f32.slice(output / BYTES, output / BYTES + rows * rows);
  }

  /** S X for a matrix S (rows, rows) and X (rows, columns). */
  gramBackward(s: Float32Array, x: Float32Array, rows: number, columns: number, free: number): Float32Array {
    const { heap, kernels } = this.#parts;
    const bytes = { x: align(x.byteLength), s: align(s.byteLength) };
    heap.reserveArena(free + 2 * bytes.x + bytes.s);
    const at = heap.arena + free;
    const [gradient, values] = [at + bytes.x, at + bytes.x + bytes.s];
    heap.f32.set(x, at / BYTES);
    heap.f32.set(s, gradient / BYTES);
    this.#parallel(kernels.LINEAR_INPUT_GRADIENT, [LINEAR_BACKWARD], {
      gradient,
      weights: at,
      values,
      batch: rows,
      inFeatures: columns,
      outFeatures: rows,
    });
    return heap.f32.slice(values / BYTES, values / BYTES + rows * columns);
  }

  /** Runs an operation on all threads. */
  #parallel<Description extends string>(
    operation: WebAssembly.Global,
    descriptions: readonly Description[],
    values: StructValues<Description>,
  ): void {
    const { heap, kernels, buffers } = this.#parts;
    writeStruct(heap.memory, buffers.args, descriptions, values);
    kernels.parallel(operation.value, buffers.args, buffers.control, buffers.threads);
  }
}

function opposite(buffer: 0 | 1): 0 | 1 {
  return buffer === 0 ? 1 : 0;
}
