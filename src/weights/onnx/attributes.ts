import { nearest } from '../../nearest.js';
import { quoteName } from '../safetensors/header.js';
import type { OnnxAttribute, OnnxNode } from './model.js';

type Kind = 'float' | 'integer' | 'text' | 'integers' | 'floats' | 'tensor';

const WINDOW: Readonly<Record<string, Kind>> = {
  auto_pad: 'text',
  kernel_shape: 'integers',
  pads: 'integers',
  strides: 'integers',
  dilations: 'integers',
};
/** Of the first operator sets, for all operators that can work in place. */
const IN_PLACE: Readonly<Record<string, Kind>> = { consumed_inputs: 'integers' };

/** The attributes of each operator that is read, in all operator sets. One that is not here means something unknown. */
const KNOWN: Readonly<Record<string, Readonly<Record<string, Kind>>>> = {
  Add: { ...IN_PLACE, axis: 'integer', broadcast: 'integer' },
  AveragePool: { ...WINDOW, ceil_mode: 'integer', count_include_pad: 'integer' },
  BatchNormalization: {
    ...IN_PLACE,
    epsilon: 'float',
    momentum: 'float',
    is_test: 'integer',
    spatial: 'integer',
    training_mode: 'integer',
  },
  Cast: { to: 'integer', saturate: 'integer', round_mode: 'text' },
  Concat: { axis: 'integer' },
  Constant: {
    value: 'tensor',
    value_float: 'float',
    value_floats: 'floats',
    value_int: 'integer',
    value_ints: 'integers',
  },
  ConstantOfShape: { value: 'tensor' },
  Conv: { ...WINDOW, group: 'integer' },
  DequantizeLinear: { axis: 'integer', block_size: 'integer', output_dtype: 'integer' },
  Dropout: { ...IN_PLACE, ratio: 'float', is_test: 'integer', seed: 'integer' },
  Flatten: { axis: 'integer' },
  Gather: { axis: 'integer' },
  Gemm: { alpha: 'float', beta: 'float', transA: 'integer', transB: 'integer', broadcast: 'integer' },
  GlobalAveragePool: {},
  Identity: {},
  LogSoftmax: { axis: 'integer' },
  MatMul: {},
  MaxPool: { ...WINDOW, ceil_mode: 'integer', storage_order: 'integer' },
  ReduceMean: { axes: 'integers', keepdims: 'integer', noop_with_empty_axes: 'integer' },
  Relu: IN_PLACE,
  Reshape: { ...IN_PLACE, shape: 'integers', allowzero: 'integer' },
  Shape: { start: 'integer', end: 'integer' },
  Slice: { axes: 'integers', starts: 'integers', ends: 'integers' },
  Softmax: { axis: 'integer' },
  Squeeze: { axes: 'integers' },
  Transpose: { perm: 'integers' },
  Unsqueeze: { axes: 'integers' },
};

/** A node's attributes, held against what they must be. A default is ONNX's, for an attribute that is left out. */
export class Attributes {
  readonly #node: OnnxNode;
  readonly #fail: (what: string) => never;

  /** @param fail is told of an attribute that the operator does not have, or that is of another type */
  constructor(node: OnnxNode, fail: (what: string) => never) {
    this.#node = node;
    this.#fail = fail;
    // An operator that is not read is refused by itself.
    if (!Object.hasOwn(KNOWN, node.op)) return;
    const known = KNOWN[node.op] as Readonly<Record<string, Kind>>;
    for (const [name, attribute] of node.attributes) {
      const kind = Object.hasOwn(known, name) ? known[name] : undefined;
      if (kind === undefined) {
        const close = nearest(name, Object.keys(known))[0];
        fail(
          `it has no attribute ${quoteName(name)}${close === undefined ? '' : `; the nearest is ${quoteName(close)}`}`,
        );
      }
      if (!isOf(attribute, kind))
        fail(`its attribute ${quoteName(name)} must be ${kind === 'text' ? 'a string' : kind}`);
    }
  }

  integer(name: string, fallback: number): number {
    const found = this.#node.attributes.get(name);
    return found ? (found.integer ?? 0) : fallback;
  }

  integers(name: string, fallback: readonly number[]): readonly number[] {
    const found = this.#node.attributes.get(name);
    return found ? (found.integers ?? []) : fallback;
  }

  float(name: string, fallback: number): number {
    const found = this.#node.attributes.get(name);
    return found ? (found.float ?? 0) : fallback;
  }

  expectInteger(name: string, expected: number, fallback: number): void {
    const got = this.integer(name, fallback);
    if (got !== expected) this.#fail(`expected ${name} ${expected}, got ${got}`);
  }

  expectIntegers(name: string, expected: readonly number[], fallback: readonly number[]): void {
    const got = this.integers(name, fallback);
    if (got.join() !== expected.join())
      this.#fail(`expected ${name} [${expected.join(', ')}], got [${got.slice(0, 8).join(', ')}]`);
  }

  /** To within float32. */
  expectFloat(name: string, expected: number, fallback: number): void {
    const got = this.float(name, fallback);
    if (Math.fround(got) !== Math.fround(expected)) this.#fail(`expected ${name} ${expected}, got ${got}`);
  }

  /** Whether a border is added so that the size stays, which for 3×3 and stride 1 is one pixel on each side. */
  isSamePadding(): boolean {
    const text = this.#autoPad();
    if (text === 'SAME_UPPER' || text === 'SAME_LOWER') return true;
    if (text !== 'NOTSET') this.#fail(`expected pads [1, 1, 1, 1], got auto_pad ${quoteName(text)}`);
    return false;
  }

  /** No border. */
  expectNoPadding(): void {
    const text = this.#autoPad();
    if (text !== 'NOTSET' && text !== 'VALID') this.#fail(`expected no padding, got auto_pad ${quoteName(text)}`);
    this.expectIntegers('pads', [0, 0, 0, 0], [0, 0, 0, 0]);
  }

  #autoPad(): string {
    return this.#node.attributes.get('auto_pad')?.text ?? 'NOTSET';
  }
}

/** Some writers leave a value out that is 0, '' or an empty list. */
function isOf(attribute: OnnxAttribute, kind: Kind): boolean {
  return Object.keys(attribute).every((key) => key === kind);
}
