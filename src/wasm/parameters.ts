import type { ParameterChunk } from '../backend.js';
import type { BatchNorm2d, Conv2d, Layer, Linear, ParameterSpec } from '../layers.js';
import { parametersOf } from '../layers.js';
import { type Arriving, ParameterTable } from '../parameter-table.js';
import { numel } from '../tensor.js';
import { type Form, placesOf, type TileSize } from './convolution.js';
import type { Heap } from './heap.js';
import type { Kernels } from './kernels.js';
import { align, BYTES, channelStride } from './layout.js';
import { inputStride, parameterBytes, STAGE } from './parameter-bytes.js';

/** Where a layer's parameters are, in bytes. Every vector has `channelStride` values, zeros past the channels. */
export interface ConvSlots {
  /** Packed as assembly/conv2d.ts says. */
  readonly weight: number;
  readonly bias: number;
  /** The epilogue without batch norm: 1 and the bias. */
  readonly scale: number;
  /** Packed as assembly/winograd.ts says, or undefined if the layer never runs that way. */
  readonly transformed: number | undefined;
  /** Channels of a pixel of the input. */
  readonly inStride: number;
}
export interface NormSlots {
  readonly weight: number;
  readonly bias: number;
  readonly runningMean: number;
  readonly runningVar: number;
  /** The epilogue `x · scale + shift`, written by `foldBatchNorm`. */
  readonly scale: number;
  readonly shift: number;
}
export interface LinearSlots {
  readonly weight: number;
  readonly bias: number;
}

interface Parameter extends Arriving {
  readonly address: number;
  /** Set for convolution weights, which are packed. */
  readonly conv: { inChannels: number; inStride: number } | undefined;
}

const EPS = 1e-5;
const MOMENTUM = 0.1;

/** All parameters of a program in the engine's memory, packed as they arrive. */
export class Parameters {
  readonly #heap: Heap;
  readonly #kernels: Kernels;
  readonly #table = new ParameterTable<Parameter>();
  readonly #slots = new Map<number, ConvSlots | NormSlots | LinearSlots>();
  readonly #layers: readonly Layer[];
  readonly #forms: readonly Form[];
  readonly #stage: number;

  /** Reserves the memory for all of them, so that too little of it shows before anything is read. */
  constructor(heap: Heap, kernels: Kernels, layers: readonly Layer[], forms: readonly Form[]) {
    this.#heap = heap;
    this.#kernels = kernels;
    this.#layers = layers;
    this.#forms = forms;
    const first = heap.keep(parameterBytes(layers, forms));
    let next = first;
    const take = (values: number): number => {
      const address = next;
      next += align(values * BYTES);
      return address;
    };
    this.#stage = take(STAGE);
    for (const [index, layer] of layers.entries()) this.#place(index, layer, take);
  }

  conv(index: number): ConvSlots {
    return this.#slots.get(index) as ConvSlots;
  }
  norm(index: number): NormSlots {
    return this.#slots.get(index) as NormSlots;
  }
  linear(index: number): LinearSlots {
    return this.#slots.get(index) as LinearSlots;
  }

  /** Takes a run of values of one parameter to its place. */
  write(chunk: ParameterChunk): void {
    const { offset, data } = chunk;
    const parameter = this.#table.take(chunk);
    if (!parameter.conv) {
      this.#heap.f32.set(data, parameter.address / BYTES + offset);
      return;
    }
    const { inChannels, inStride } = parameter.conv;
    for (let from = 0; from < data.length; from += STAGE) {
      const part = data.subarray(from, from + STAGE);
      this.#heap.f32.set(part, this.#stage / BYTES);
      this.#kernels.packConv2d(this.#stage, offset + from, part.length, parameter.address, inChannels, inStride);
    }
  }

  /** Call after the last `write`: every value must have come. */
  finish(): void {
    this.#table.checkComplete();
    for (const [index, layer] of this.#layers.entries()) {
      if (layer.op !== 'conv2d') continue;
      const { weight, transformed, inStride } = this.conv(index);
      const size = this.#forms[index] as TileSize;
      if (transformed === undefined) continue;
      this.#kernels.packWinograd(size, weight, transformed, layer.outChannels, inStride, this.#stage);
    }
  }

  /** A parameter as it came, or as training has left it. */
  read(name: string): Float32Array {
    const parameter = this.#table.find(name);
    const out = new Float32Array(numel(parameter.spec.shape));
    if (!parameter.conv) {
      const from = parameter.address / BYTES;
      out.set(this.#heap.f32.subarray(from, from + out.length));
      return out;
    }
    const { inChannels, inStride } = parameter.conv;
    for (let from = 0; from < out.length; from += STAGE) {
      const count = Math.min(STAGE, out.length - from);
      this.#kernels.unpackConv2d(parameter.address, from, count, this.#stage, inChannels, inStride);
      out.set(this.#heap.f32.subarray(this.#stage / BYTES, this.#stage / BYTES + count), from);
    }
    return out;
  }

  /**
   * Writes a batch norm's epilogue for the statistics at `mean` and `variance`; `bias` is the address of the bias of
   * a convolution that it is folded into. Computed in float64 and rounded once.
   */
  foldBatchNorm(slots: NormSlots, channels: number, mean: number, variance: number, bias?: number): void {
    const { f32 } = this.#heap;
    const at = (address: number, c: number): number => f32[address / BYTES + c] as number;
    for (let c = 0; c < channels; c++) {
      const scale = at(slots.weight, c) / Math.sqrt(at(variance, c) + EPS);
      const shift = at(slots.bias, c) + ((bias === undefined ? 0 : at(bias, c)) - at(mean, c)) * scale;
      f32[slots.scale / BYTES + c] = scale;
      f32[slots.shift / BYTES + c] = shift;
    }
  }

  /**
   * Gives what moves the running statistics towards a batch's, as PyTorch does: the variance without bias, momentum 0.1.
   * The batch's are copied now.
   */
  updateStatistics(slots: NormSlots, channels: number, mean: number, variance: number, count: number): () => void {
    const copy = (address: number): Float32Array => this.#heap.f32.slice(address / BYTES, address / BYTES + channels);
    const [means, variances] = [copy(mean), copy(variance)];
    const blend = (running: number, batch: Float32Array, factor: number): void => {
      const { f32 } = this.#heap;
      for (let c = 0; c < channels; c++) {
        const at = running / BYTES + c;
        f32[at] = (1 - MOMENTUM) * (f32[at] as number) + MOMENTUM * factor * (batch[c] as number);
      }
    };
    return () => {
      blend(slots.runningMean, means, 1);
      blend(slots.runningVar, variances, count / (count - 1));
    };
  }

  #place(index: number, layer: Layer, take: (values: number) => number): void {
    const add = (spec: ParameterSpec | undefined, address: number, conv?: Parameter['conv']): number => {
      if (spec) this.#table.add({ spec, address, conv, written: 0 });
      return address;
    };
    const specs = parametersOf(layer);
    if (layer.op === 'conv2d') this.#slots.set(index, this.#placeConv(layer, index, specs, take, add));
    if (layer.op === 'linear') this.#slots.set(index, placeLinear(layer, specs, take, add));
    if (layer.op === 'batchNorm2d') this.#slots.set(index, placeNorm(layer, specs, take, add));
  }

  #placeConv(layer: Conv2d, index: number, specs: ParameterSpec[], take: Take, add: Add): ConvSlots {
    const inStride = inputStride(layer, index);
    const out = channelStride(layer.outChannels);
    const conv = { inChannels: layer.inChannels, inStride };
    const weight = add(specs[0], take(out * 9 * inStride), conv);
    const bias = add(specs[1], take(out));
    const scale = take(out);
    this.#heap.f32.fill(1, scale / BYTES, scale / BYTES + layer.outChannels);
    const form = this.#forms[index] as Form;
    const transformed = form === 'direct' ? undefined : take(placesOf(form) * out * inStride);
    return { weight, bias, scale, transformed, inStride };
  }
}

type Take = (values: number) => number;
type Add = (spec: ParameterSpec | undefined, address: number, conv?: Parameter['conv']) => number;

function placeLinear(layer: Linear, specs: ParameterSpec[], take: Take, add: Add): LinearSlots {
  return {
    weight: add(specs[0], take(layer.outFeatures * layer.inFeatures)),
    bias: add(specs[1], take(layer.outFeatures)),
  };
}

function placeNorm(layer: BatchNorm2d, specs: ParameterSpec[], take: Take, add: Add): NormSlots {
  const count = channelStride(layer.channels);
  return {
    weight: add(specs[0], take(count)),
    bias: add(specs[1], take(count)),
    runningMean: add(specs[2], take(count)),
    runningVar: add(specs[3], take(count)),
    scale: take(count),
    shift: take(count),
  };
}
