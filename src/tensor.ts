import { VGGNetError } from './errors.js';
import { normals } from './random.js';

/** Product of the sizes: the number of elements of a shape. */
export function numel(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** A shape as it is written in messages: `[1, 3, 224, 224]`. */
export function formatShape(shape: readonly unknown[]): string {
  return `[${shape.map(String).join(', ')}]`;
}

/** The most elements that one tensor may have: 4 GiB of float32, what a 32-bit memory can hold. */
const MAX_ELEMENTS = 2 ** 30;

/** What a tensor is made of, as messages carry it. */
export interface TensorData {
  readonly data: Float32Array;
  readonly shape: readonly number[];
}

/** Float32 values in row-major order with a shape; images are (N, C, H, W), as in PyTorch. */
export class Tensor {
  readonly data: Float32Array;
  readonly shape: readonly number[];

  /**
   * Wraps `data` without a copy.
   * @throws VGGNetError `INVALID_DTYPE` if `data` is no Float32Array; `INVALID_SHAPE` if a size is
   * negative or fractional, or the data is shorter or longer than the shape
   */
  constructor(data: Float32Array, shape: readonly number[]) {
    if (!(data instanceof Float32Array)) {
      throw new VGGNetError('INVALID_DTYPE', `Tensor data must be a Float32Array, got ${describe(data)}`);
    }
    checkShape(shape);
    const expected = numel(shape);
    if (data.length !== expected) {
      throw new VGGNetError(
        'INVALID_SHAPE',
        `Shape ${formatShape(shape)} needs ${expected} values, got ${data.length}${isDetached(data) ? ' (the buffer is detached)' : ''}`,
      );
    }
    this.data = data;
    this.shape = Object.freeze([...shape]);
  }

  /** All zeros. */
  static zeros(shape: readonly number[]): Tensor {
    return new Tensor(allocate(shape), shape);
  }

  /**
   * Standard normal values; for a given seed those of `torch.manual_seed(seed); torch.randn(shape)`
   * on a CPU, to within rounding.
   * @param options.seed an integer from 0 to 2^32 − 1; default 0
   */
  static randn(shape: readonly number[], options: { seed?: number } = {}): Tensor {
    const data = allocate(shape);
    normals(data, options.seed ?? 0);
    return new Tensor(data, shape);
  }

  /** The number of elements. */
  get size(): number {
    return this.data.length;
  }

  /**
   * The same data under another shape; one size may be −1.
   * @throws VGGNetError `INVALID_SHAPE` if the number of elements differs
   */
  reshape(shape: readonly number[]): Tensor {
    if (!Array.isArray(shape)) checkShape(shape);
    const known = numel(shape.filter((size) => size !== -1));
    return new Tensor(
      this.data,
      shape.map((size) => (size === -1 ? this.size / known : size)),
    );
  }

  toString(): string {
    return `Tensor(${formatShape(this.shape)})`;
  }
}

/** Throws `INVALID_SHAPE` if the data was detached (transferred to another thread) since the tensor was made. */
export function assertAttached(tensor: Tensor): void {
  if (tensor.data.length !== numel(tensor.shape)) {
    throw new VGGNetError(
      'INVALID_SHAPE',
      `Tensor of shape ${formatShape(tensor.shape)} holds ${tensor.data.length} values: its buffer is detached or was resized`,
    );
  }
}

/** Throws `INVALID_SHAPE` if this is no list of sizes. */
export function checkShape(shape: readonly number[]): void {
  if (Array.isArray(shape) && shape.every((size) => Number.isSafeInteger(size) && size >= 0)) return;
  const got = Array.isArray(shape) ? formatShape(shape) : describe(shape);
  throw new VGGNetError('INVALID_SHAPE', `A shape is a list of integers of at least 0, got ${got}`);
}

/**
 * Zeros for a shape.
 * @throws VGGNetError `INVALID_SHAPE`
 */
export function allocate(shape: readonly number[]): Float32Array {
  checkShape(shape);
  const length = numel(shape);
  if (length > MAX_ELEMENTS) {
    throw new VGGNetError('INVALID_SHAPE', `A tensor has at most 2^30 elements, got ${formatShape(shape)}`);
  }
  return new Float32Array(length);
}

function isDetached(data: Float32Array): boolean {
  return data.buffer.byteLength === 0;
}

function describe(value: unknown): string {
  if (value === null) return 'null';
  return typeof value === 'object' ? (value.constructor?.name ?? 'an object') : typeof value;
}
