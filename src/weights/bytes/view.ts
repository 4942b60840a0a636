import { numel } from '../../tensor.js';
import type { WeightEntry } from '../source.js';

/** A run of bytes of a file that tensors are cut from, as PyTorch's storages are. */
export interface Storage {
  /** What messages call it. */
  readonly label: string;
  readonly byteLength: number;
  /** Bytes in the file, where they are others: deflated ones, or none for values that are made by a rule. */
  readonly fileBytes?: number;
}

/** Where a tensor's elements are in a storage. */
export interface Layout {
  readonly storage: Storage;
  /** Of the first element, a multiple of `width`. */
  readonly byteOffset: number;
  /** Bytes of an element: 1, 2, 4 or 8. */
  readonly width: number;
  /** Sizes whose product is the tensor's; the tensor's own shape may write them otherwise. */
  readonly dims: readonly number[];
  /** Elements from one index to the next, for each of `dims`. None is negative. */
  readonly strides: readonly number[];
}

/** A tensor that is a view of a storage. */
export interface ViewEntry extends WeightEntry {
  readonly layout: Layout;
}

/** Row-major strides: the last index runs fastest. */
export function contiguousStrides(dims: readonly number[]): number[] {
  const strides = new Array<number>(dims.length).fill(1);
  for (let i = dims.length - 2; i >= 0; i--) strides[i] = (strides[i + 1] as number) * (dims[i + 1] as number);
  return strides;
}

/** The first byte of a layout, and the byte after its last; both the same if it has no elements. */
export function extentOf({ byteOffset, width, dims, strides }: Layout): { begin: number; end: number } {
  if (dims.includes(0)) return { begin: byteOffset, end: byteOffset };
  const last = dims.reduce((sum, size, i) => sum + (size - 1) * (strides[i] as number), 0);
  return { begin: byteOffset, end: byteOffset + (last + 1) * width };
}

/** Whether the elements lie in a row, in order. */
export function isContiguous({ dims, strides }: Layout): boolean {
  const expected = contiguousStrides(dims);
  return dims.includes(0) || dims.every((size, i) => size === 1 || strides[i] === expected[i]);
}

type Elements = Uint8Array | Uint16Array | Uint32Array | Float64Array;

function elementsOf(bytes: Uint8Array<ArrayBuffer>, width: number): Elements {
  const { buffer, byteOffset, byteLength } = bytes;
  if (width === 1) return bytes;
  if (width === 2) return new Uint16Array(buffer, byteOffset, byteLength >> 1);
  if (width === 4) return new Uint32Array(buffer, byteOffset, byteLength >> 2);
  return new Float64Array(buffer, byteOffset, byteLength / 8);
}

/**
 * Puts a layout's elements into row-major order, in parts.
 * @param raw the storage's bytes from `rawStart` on, in a buffer of their own
 * @param into where each part is put, whole elements of it
 * @returns the number of elements of each part, which lie at the start of `into`
 */
export function* gather(
  layout: Layout,
  raw: Uint8Array<ArrayBuffer>,
  rawStart: number,
  into: Uint8Array<ArrayBuffer>,
): Generator<number, void, undefined> {
  const { width } = layout;
  const from = elementsOf(raw, width);
  const out = elementsOf(into, width);
  const { dims, strides } = merged(layout);
  const first = (layout.byteOffset - rawStart) / width;
  const [rows = 1, ...inner] = dims;
  const [rowStride = 0, ...innerStrides] = strides;
  const columns = numel(inner);
  if (rows === 0 || columns === 0) return;
  if (columns <= out.length) {
    // As many rows at a time as fit. Along a row the places are far apart if the tensor was transposed, and from row
    // to row near: so the rows are the inner loop.
    const places = placesOf(inner, innerStrides, 0, columns);
    const most = Math.floor(out.length / columns);
    for (let row = 0; row < rows; row += most) {
      const count = Math.min(most, rows - row);
      const start = first + row * rowStride;
      for (let column = 0; column < columns; column++) {
        let at = start + (places[column] as number);
        for (let i = column; i < count * columns; i += columns) {
          out[i] = from[at] as number;
          at += rowStride;
        }
      }
      yield count * columns;
    }
    return;
  }
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column += out.length) {
      const count = Math.min(out.length, columns - column);
      const places = placesOf(inner, innerStrides, column, count);
      const start = first + row * rowStride;
      for (let i = 0; i < count; i++) out[i] = from[start + (places[i] as number)] as number;
      yield count;
    }
  }
}

/** The same elements in as few dimensions as they can be written: sizes of 1 left out, neighbours joined. */
function merged({ dims, strides }: Layout): { dims: number[]; strides: number[] } {
  const out: { dims: number[]; strides: number[] } = { dims: [], strides: [] };
  for (const [i, size] of dims.entries()) {
    if (size === 1) continue;
    const stride = strides[i] as number;
    if (out.dims.length > 0 && out.strides.at(-1) === stride * size) {
      out.dims.push((out.dims.pop() as number) * size);
      out.strides[out.strides.length - 1] = stride;
    } else {
      out.dims.push(size);
      out.strides.push(stride);
    }
  }
  return out;
}

/** Where elements `start` to `start + count` of a row-major walk are, in elements. */
function placesOf(dims: readonly number[], strides: readonly number[], start: number, count: number): Float64Array {
  const index = new Array<number>(dims.length).fill(0);
  let rest = start;
  let place = 0;
  for (let d = dims.length - 1; d >= 0; d--) {
    const size = dims[d] as number;
    index[d] = rest % size;
    place += (index[d] as number) * (strides[d] as number);
    rest = Math.floor(rest / size);
  }
  const places = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    places[i] = place;
    for (let d = dims.length - 1; d >= 0; d--) {
      const next = (index[d] as number) + 1;
      if (next < (dims[d] as number)) {
        index[d] = next;
        place += strides[d] as number;
        break;
      }
      place -= (index[d] as number) * (strides[d] as number);
      index[d] = 0;
    }
  }
  return places;
}
