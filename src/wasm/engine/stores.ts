import type { Kernels } from '../kernels.js';
import { BYTES } from '../plan/layout.js';
import { type RowKind, rowBytes, STAGE } from '../plan/parameter-bytes.js';
import type { Heap } from './heap.js';

/* How the values of one parameter are written to the engine's memory and read back. */

export interface Store {
  /** Writes values from index `offset` on; they arrive in order. */
  write(offset: number, values: Float32Array): void;
  /** Reads all current values into `out`. */
  read(out: Float32Array): void;
}

/** Float32 in the file's order. */
export class PlainStore implements Store {
  readonly #heap: Heap;
  readonly #at: number;

  constructor(heap: Heap, address: number) {
    this.#heap = heap;
    this.#at = address / BYTES;
  }

  write(offset: number, values: Float32Array): void {
    this.#heap.f32.set(values, this.#at + offset);
  }

  read(out: Float32Array): void {
    out.set(this.#heap.f32.subarray(this.#at, this.#at + out.length));
  }
}

/** What packing stores share: the memory, the kernels and a staging buffer. */
export interface Packing {
  readonly heap: Heap;
  readonly kernels: Kernels;
  readonly stage: number;
}

/** A convolution's weights in float32, packed as in assembly/conv2d.ts. */
export class ConvStore implements Store {
  readonly #packing: Packing;
  readonly #place: { address: number; inChannels: number; inStride: number };

  constructor(packing: Packing, place: { address: number; inChannels: number; inStride: number }) {
    this.#packing = packing;
    this.#place = place;
  }

  write(offset: number, values: Float32Array): void {
    const { heap, kernels, stage } = this.#packing;
    const { address, inChannels, inStride } = this.#place;
    for (let from = 0; from < values.length; from += STAGE) {
      const part = values.subarray(from, from + STAGE);
      heap.f32.set(part, stage / BYTES);
      kernels.packConv2d(stage, offset + from, part.length, address, inChannels, inStride, 0);
    }
  }

  read(out: Float32Array): void {
    const { heap, kernels, stage } = this.#packing;
    const { address, inChannels, inStride } = this.#place;
    for (let from = 0; from < out.length; from += STAGE) {
      const count = Math.min(STAGE, out.length - from);
      kernels.packConv2d(stage, from, count, address, inChannels, inStride, 1);
      out.set(heap.f32.subarray(stage / BYTES, stage / BYTES + count), from);
    }
  }
}

/** Weights that are packed a whole row at a time, since the inputs of one output share a scale. */
abstract class RowStore implements Store {
  readonly #packing: Packing;
  readonly #row: Float32Array;

  constructor(packing: Packing, columns: number) {
    this.#packing = packing;
    this.#row = new Float32Array(columns);
  }

  write(offset: number, values: Float32Array): void {
    const { heap, stage } = this.#packing;
    const columns = this.#row.length;
    for (let from = 0; from < values.length; ) {
      const column = (offset + from) % columns;
      const part = values.subarray(from, from + columns - column);
      this.#row.set(part, column);
      from += part.length;
      if (column + part.length < columns) return;
      heap.f32.set(this.#row, stage / BYTES);
      this.pack(stage, (offset + from) / columns - 1);
    }
  }

  read(out: Float32Array): void {
    const { heap, stage } = this.#packing;
    const columns = this.#row.length;
    for (let row = 0; row * columns < out.length; row++) {
      this.unpack(stage, row);
      out.set(heap.f32.subarray(stage / BYTES, stage / BYTES + columns), row * columns);
    }
  }

  /** Packs a row from the staging buffer, and unpacks it to there. */
  protected abstract pack(stage: number, row: number): void;
  protected abstract unpack(stage: number, row: number): void;
}

/** A convolution's integer weights, packed as in assembly/conv2d-int8.ts. */
export class ConvInt8Store extends RowStore {
  readonly #kernels: Kernels;
  readonly #place: { address: number; scales: number; inChannels: number; inStride: number };

  constructor(packing: Packing, place: { address: number; scales: number; inChannels: number; inStride: number }) {
    super(packing, 9 * place.inChannels);
    this.#kernels = packing.kernels;
    this.#place = place;
  }

  protected pack(stage: number, row: number): void {
    const { address, scales, inChannels, inStride } = this.#place;
    this.#kernels.packConv2dInt8(stage, row, inChannels, inStride, address, scales);
  }

  protected unpack(stage: number, row: number): void {
    const { address, scales, inChannels, inStride } = this.#place;
    this.#kernels.unpackConv2dInt8(address, scales, row, inChannels, inStride, stage);
  }
}

/** A linear layer's low-precision weights, packed as in assembly/expand.ts. */
export class LinearStore extends RowStore {
  readonly #kernels: Kernels;
  readonly #place: { address: number; scales: number; columns: number; kind: RowKind };

  constructor(packing: Packing, place: { address: number; scales: number; columns: number; kind: RowKind }) {
    super(packing, place.columns);
    this.#kernels = packing.kernels;
    this.#place = place;
  }

  protected pack(stage: number, row: number): void {
    const { columns, kind } = this.#place;
    this.#kernels.packRow(kind, stage, columns, ...this.#at(row));
  }

  protected unpack(stage: number, row: number): void {
    const { columns, kind } = this.#place;
    this.#kernels.expandRow(kind, ...this.#at(row), 0, columns, stage);
  }

  #at(row: number): [number, number] {
    const { address, scales, columns, kind } = this.#place;
    const bytes = rowBytes(kind, columns);
    return [address + row * bytes.row, scales + row * bytes.scales];
  }
}
