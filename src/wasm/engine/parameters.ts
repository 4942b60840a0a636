import type { ParameterChunk } from '../../backend.js';
import type { BatchNorm2d, Conv2d, Layer, Linear, ParameterSpec } from '../../program/layers.js';
import { parametersOf } from '../../program/layers.js';
import { type Arriving, ParameterTable } from '../../program/parameter-table.js';
import { numel } from '../../tensor.js';
import type { Kernels } from '../kernels.js';
import { type Algorithm, isTransformed, transformedBytes } from '../plan/algorithm.js';
import { align, BYTES, channelStride } from '../plan/layout.js';
import {
  convBytes,
  inputStride,
  linearBytes,
  parameterBytes,
  type RowKind,
  rowKind,
  stageValues,
} from '../plan/parameter-bytes.js';
import type { Heap } from './heap.js';
import { ConvInt8Store, ConvStore, LinearStore, type Packing, PlainStore, type Store } from './stores.js';

/** The addresses of a layer's parameters. Every vector has `channelStride` values, zeros past the channels. */
export interface ConvSlots {
  /** Packed as in assembly/conv2d.ts, or as in assembly/conv2d-int8.ts. */
  readonly weight: number;
  /** Of integer weights; undefined for float32. */
  readonly weightScales: number | undefined;
  readonly bias: number;
  /** The epilogue without batch norm: 1 and the bias. */
  readonly scale: number;
  /** Packed by assembly/winograd-pack.ts; undefined if the layer never runs by Winograd's method. */
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
  readonly kind: RowKind;
  /** Of the weights; unused for float32. */
  readonly scales: number;
  readonly bias: number;
}

interface Parameter extends Arriving {
  readonly store: Store;
}

/** The parameters of a program in the engine's memory, packed as they arrive. */
export class Parameters {
  readonly #heap: Heap;
  readonly #kernels: Kernels;
  readonly #table = new ParameterTable<Parameter>();
  readonly #slots = new Map<number, ConvSlots | NormSlots | LinearSlots>();
  readonly #layers: readonly Layer[];
  readonly #algorithms: readonly Algorithm[];
  /** What its stores work with. */
  readonly packing: Packing;

  /** Reserves the memory for all of them, so that too little memory fails before anything is read. */
  constructor(heap: Heap, kernels: Kernels, layers: readonly Layer[], algorithms: readonly Algorithm[]) {
    this.#heap = heap;
    this.#kernels = kernels;
    this.#layers = layers;
    this.#algorithms = algorithms;
    const first = heap.keep(parameterBytes(layers, algorithms));
    let next = first;
    const take = (bytes: number): number => {
      const address = next;
      next += align(bytes);
      return address;
    };
    this.packing = { heap, kernels, stage: take(stageValues(layers) * BYTES) };
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

  /** Stores consecutive values of one parameter. */
  write(chunk: ParameterChunk): void {
    this.#table.take(chunk).store.write(chunk.offset, chunk.data);
  }

  /**
   * Call after the last `write`.
   * @throws VGGNetError `WEIGHTS_MISMATCH` if values are missing
   */
  finish(): void {
    this.#table.checkComplete();
    for (const [index, layer] of this.#layers.entries()) {
      if (layer.op !== 'conv2d') continue;
      const { weight, transformed, inStride } = this.conv(index);
      const size = this.#algorithms[index];
      if (!isTransformed(size) || transformed === undefined) continue;
      this.#kernels.packWinograd(size, weight, transformed, layer.outChannels, inStride, this.packing.stage);
    }
  }

  /** A copy of a parameter's values: rounded in low precision, and for running statistics as training has changed them. */
  read(name: string): Float32Array {
    const { spec, store } = this.#table.find(name);
    const out = new Float32Array(numel(spec.shape));
    store.read(out);
    return out;
  }

  /**
   * Writes a batch norm's epilogue for the statistics at `mean` and `variance`; `bias` is the address of the bias of
   * a convolution that it is folded into. Computed in float64 and rounded once.
   */
  foldBatchNorm(slots: NormSlots, { channels, eps }: BatchNorm2d, mean: number, variance: number, bias?: number): void {
    const { f32 } = this.#heap;
    const at = (address: number, c: number): number => f32[address / BYTES + c] as number;
    for (let c = 0; c < channels; c++) {
      const scale = at(slots.weight, c) / Math.sqrt(at(variance, c) + eps);
      const shift = at(slots.bias, c) + ((bias === undefined ? 0 : at(bias, c)) - at(mean, c)) * scale;
      f32[slots.scale / BYTES + c] = scale;
      f32[slots.shift / BYTES + c] = shift;
    }
  }

  /**
   * Returns a function that moves the running statistics toward the batch's, as PyTorch does: with the unbiased variance.
   * It copies the batch's statistics now.
   */
  updateStatistics(
    slots: NormSlots,
    { channels, momentum }: BatchNorm2d,
    mean: number,
    variance: number,
    count: number,
  ): () => void {
    const copy = (address: number): Float32Array => this.#heap.f32.slice(address / BYTES, address / BYTES + channels);
    const [means, variances] = [copy(mean), copy(variance)];
    const blend = (running: number, batch: Float32Array, factor: number): void => {
      const { f32 } = this.#heap;
      for (let c = 0; c < channels; c++) {
        const at = running / BYTES + c;
        f32[at] = (1 - momentum) * (f32[at] as number) + momentum * factor * (batch[c] as number);
      }
    };
    return () => {
      blend(slots.runningMean, means, 1);
      blend(slots.runningVar, variances, count / (count - 1));
    };
  }

  #place(index: number, layer: Layer, take: Take): void {
    const [weight, bias, ...statistics] = parametersOf(layer);
    if (!weight || !bias) return;
    if (layer.op === 'conv2d') this.#slots.set(index, this.#placeConv(layer, index, weight, bias, take));
    if (layer.op === 'linear') this.#slots.set(index, this.#placeLinear(layer, weight, bias, take));
    if (layer.op === 'batchNorm2d') {
      this.#slots.set(index, this.#placeNorm(layer, [weight, bias, ...statistics], take));
    }
  }

  #placeConv(layer: Conv2d, index: number, weight: ParameterSpec, bias: ParameterSpec, take: Take): ConvSlots {
    const { inChannels } = layer;
    const algorithm = this.#algorithms[index] as Algorithm;
    const inStride = inputStride(layer, index);
    const out = channelStride(layer.outChannels);
    const address = take(convBytes(layer, index, algorithm));
    const scales = algorithm === 'int8' ? take(out * BYTES) : undefined;
    const place = { address, inChannels, inStride };
    this.#add(
      weight,
      scales === undefined ? new ConvStore(this.packing, place) : new ConvInt8Store(this.packing, { ...place, scales }),
    );
    const biasAt = this.#addPlain(bias, take(out * BYTES));
    const scale = take(out * BYTES);
    this.#heap.f32.fill(1, scale / BYTES, scale / BYTES + layer.outChannels);
    const transformed = isTransformed(algorithm) ? take(transformedBytes(layer, algorithm)) : undefined;
    return { weight: address, weightScales: scales, bias: biasAt, scale, transformed, inStride };
  }

  #placeLinear(layer: Linear, weight: ParameterSpec, bias: ParameterSpec, take: Take): LinearSlots {
    const kind = rowKind(layer);
    const bytes = linearBytes(layer);
    const address = take(bytes.weight);
    const scales = take(bytes.scales);
    const place = { address, scales, columns: layer.inFeatures, kind };
    this.#add(weight, kind === 0 ? new PlainStore(this.#heap, address) : new LinearStore(this.packing, place));
    return { weight: address, kind, scales, bias: this.#addPlain(bias, take(layer.outFeatures * BYTES)) };
  }

  #placeNorm(layer: BatchNorm2d, specs: readonly ParameterSpec[], take: Take): NormSlots {
    const bytes = channelStride(layer.channels) * BYTES;
    const [weight, bias, runningMean, runningVar] = specs.map((spec) => this.#addPlain(spec, take(bytes)));
    return { weight, bias, runningMean, runningVar, scale: take(bytes), shift: take(bytes) } as NormSlots;
  }

  #add(spec: ParameterSpec, store: Store): void {
    this.#table.add({ spec, store, written: 0 });
  }

  #addPlain(spec: ParameterSpec, address: number): number {
    this.#add(spec, new PlainStore(this.#heap, address));
    return address;
  }
}

type Take = (bytes: number) => number;
