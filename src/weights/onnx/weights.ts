import { VGGNetError } from '../../errors.js';
import { formatShape, numel } from '../../tensor.js';
import type { DataReader } from '../bytes/cursor.js';
import { contiguousStrides, type Storage, type ViewEntry } from '../bytes/view.js';
import { isFloatDtype } from '../dtype.js';
import { quoteName } from '../safetensors/header.js';
import { Attributes } from './attributes.js';
import type { OnnxModel, OnnxNode, OnnxTensor } from './model.js';

/*
 * What a node's input is when it does not depend on the graph's: an initializer, a Constant, or what Identity, Cast,
 * Transpose, DequantizeLinear and ConstantOfShape make of one. The values stay in the file: a weight says how to read
 * them.
 */

/** How to read an initializer's bytes. */
export type ReadTensor = (tensor: OnnxTensor) => Promise<DataReader>;

/** A storage whose bytes are an initializer's, or are made as they are read. */
export interface OnnxStorage extends Storage {
  /** Where its bytes begin in the file, to read a file in order. */
  readonly place: number;
  open(read: ReadTensor): Promise<DataReader>;
}

/** A weight before it has its name. */
export type OnnxWeight = ViewEntry & { readonly layout: { readonly storage: Storage } };

/** Follows weights back to what they are made of. */
export class WeightResolver {
  readonly #model: OnnxModel;
  readonly #producers: ReadonlyMap<string, OnnxNode>;
  readonly #storages = new Map<OnnxTensor, OnnxStorage>();
  /** Nodes that made a weight. */
  readonly used: Set<OnnxNode> = new Set();

  constructor(model: OnnxModel, producers: ReadonlyMap<string, OnnxNode>) {
    this.#model = model;
    this.#producers = producers;
  }

  /**
   * @param node whose input it is
   * @throws VGGNetError `WEIGHTS_MISMATCH` for a value that depends on the graph's input, or is made in another way
   */
  resolve(name: string, node: OnnxNode, what: string): OnnxWeight {
    const fail = (problem: string): never => differ(`${describe(node)}: expected its ${what} ${problem}`);
    // Backwards to where the values are, then forwards again.
    const path: OnnxNode[] = [];
    let at = name;
    for (;;) {
      const tensor = this.#model.tensors.get(at);
      if (tensor) return this.#through(path, this.#view(tensor));
      const producer = this.#producers.get(at);
      if (!producer || path.length > MAX_STEPS)
        return fail(`as an initializer, got ${at === '' ? 'none' : quoteName(at)}`);
      this.used.add(producer);
      if (producer.op === 'Constant') return this.#through(path, this.#view(this.#constant(producer)));
      if (producer.op === 'ConstantOfShape') return this.#through(path, this.#filled(producer));
      if (!STEPS.has(producer.op)) return fail(`as an initializer, got what ${describe(producer)} makes`);
      path.push(producer);
      at = producer.inputs[0] ?? '';
    }
  }

  /** The values of a small tensor of integers, such as a shape; undefined if they are not known. */
  integers(name: string): readonly number[] | undefined {
    const producer = this.#producers.get(name);
    const tensor =
      this.#model.tensors.get(name) ?? (producer?.op === 'Constant' ? this.#constant(producer) : undefined);
    if (tensor && producer) this.used.add(producer);
    if (tensor) return tensor.integers;
    if (producer?.op !== 'Constant') return undefined;
    this.used.add(producer);
    const { integer, integers } = producer.attributes.get('value_ints') ?? producer.attributes.get('value_int') ?? {};
    return integers ?? (integer === undefined ? undefined : [integer]);
  }

  #constant(node: OnnxNode): OnnxTensor {
    attributesOf(node);
    const { tensor } = node.attributes.get('value') ?? {};
    return tensor ?? differ(`${describe(node)}: expected a tensor as its value`);
  }

  #view(tensor: OnnxTensor): OnnxWeight {
    const { dims, dtype, width, name } = tensor;
    const storage = this.#storages.get(tensor) ?? stored(tensor);
    this.#storages.set(tensor, storage);
    return {
      name,
      shape: dims,
      dtype,
      layout: { storage, byteOffset: 0, width, dims, strides: contiguousStrides(dims) },
    };
  }

  #through(path: readonly OnnxNode[], weight: OnnxWeight): OnnxWeight {
    return path.reduceRight((now, node) => {
      const at = attributesOf(node);
      if (node.op === 'Transpose') return transposed(now, node, at);
      if (node.op === 'Cast') return cast(now, node, at);
      if (node.op === 'DequantizeLinear') return this.#dequantized(now, node, at);
      return now;
    }, weight);
  }

  #filled(node: OnnxNode): OnnxWeight {
    attributesOf(node);
    const dims = this.integers(node.inputs[0] ?? '') ?? differ(`${describe(node)}: expected a shape that is known`);
    if (!dims.every((size) => size >= 0) || !Number.isSafeInteger(numel(dims) * 8)) {
      differ(`${describe(node)}: expected a shape, got ${formatShape(dims)}`);
    }
    const value = node.attributes.get('value')?.tensor;
    if (value && (value.dtype !== 'F32' || numel(value.dims) !== 1)) {
      differ(`${describe(node)}: expected one float32 as its value`);
    }
    return made(node.outputs[0] ?? '', dims, value ? (read) => firstFloat(read, value) : async () => 0);
  }

  #dequantized(weight: OnnxWeight, node: OnnxNode, at: Attributes): OnnxWeight {
    at.expectInteger('block_size', 0, 0);
    const { shape, dtype, layout } = weight;
    const bytes = INTEGERS[dtype] ?? differ(`${describe(node)}: expected integers, got ${dtype}`);
    const [, scaleName = '', zeroName = ''] = node.inputs;
    const scale = this.resolve(scaleName, node, 'scale');
    const zero = zeroName === '' ? undefined : this.resolve(zeroName, node, 'zero point');
    const count = numel(scale.shape);
    const axis = at.integer('axis', 1);
    const along = axis < 0 ? axis + shape.length : axis;
    if (count !== 1 && (scale.shape.length !== 1 || shape[along] !== count)) {
      differ(
        `${describe(node)}: expected a scale, or one for each of dimension ${axis}, got ${formatShape(scale.shape)}`,
      );
    }
    if (zero && (zero.dtype !== dtype || numel(zero.shape) !== count)) {
      differ(`${describe(node)}: expected as many zero points as scales, of the weight's type`);
    }
    if (scale.dtype !== 'F32' || count > MAX_SCALES) differ(`${describe(node)}: expected scales in float32`);
    const source = layout.storage as OnnxStorage;
    // In the order of the bytes, which is another than the shape's behind a Transpose.
    const inner = count === 1 ? Number.POSITIVE_INFINITY : (layout.strides[along] as number);
    const storage: OnnxStorage = {
      label: source.label,
      byteLength: numel(shape) * 4,
      fileBytes: source.byteLength,
      place: source.place,
      async open(read) {
        const scales = await valuesOf(scale, read);
        const zeros = zero ? await valuesOf(zero, read) : new Float32Array(count);
        return dequantizing(await source.open(read), bytes, (i) => {
          const channel = count === 1 ? 0 : Math.floor(i / inner) % count;
          return [scales[channel] as number, zeros[channel] as number];
        });
      },
    };
    return { ...weight, dtype: 'F32', layout: { ...layout, storage, width: 4 } };
  }
}

/** Between a weight and its values. */
const MAX_STEPS = 16;
const STEPS: ReadonlySet<string> = new Set(['Identity', 'Cast', 'Transpose', 'DequantizeLinear']);
/** More than any layer has outputs. */
const MAX_SCALES = 2 ** 16;

function transposed(weight: OnnxWeight, node: OnnxNode, at: Attributes): OnnxWeight {
  const { layout, shape } = weight;
  const reversed = shape.map((_, i) => shape.length - 1 - i);
  const order = at.integers('perm', reversed);
  if (order.length !== shape.length || [...order].sort((a, b) => a - b).some((from, i) => from !== i)) {
    differ(`${describe(node)}: expected an order of ${shape.length} dimensions, got [${order.slice(0, 8).join(', ')}]`);
  }
  const dims = order.map((from) => layout.dims[from] as number);
  const strides = order.map((from) => layout.strides[from] as number);
  return { ...weight, shape: dims, layout: { ...layout, dims, strides } };
}

/** TensorProto's FLOAT, FLOAT16, DOUBLE and BFLOAT16. */
export const FLOAT_TYPES: readonly number[] = [1, 10, 11, 16];

function cast(weight: OnnxWeight, node: OnnxNode, at: Attributes): OnnxWeight {
  if (FLOAT_TYPES.includes(at.integer('to', 0)) && isFloatDtype(weight.dtype)) return weight;
  return differ(`${describe(node)}: expected a cast from floats to floats`);
}

const INTEGERS: Readonly<Record<string, { readonly width: 1 | 2 | 4; readonly signed: boolean }>> = {
  I8: { width: 1, signed: true },
  U8: { width: 1, signed: false },
  I16: { width: 2, signed: true },
  U16: { width: 2, signed: false },
  I32: { width: 4, signed: true },
};

function stored(tensor: OnnxTensor): OnnxStorage {
  const { label, byteLength, fileBytes, start = 0, external } = tensor;
  return { label, byteLength, fileBytes, place: external?.offset ?? start, open: (read) => read(tensor) };
}

/** A float32 tensor of one value. */
export function made(name: string, dims: readonly number[], find: (read: ReadTensor) => Promise<number>): OnnxWeight {
  const storage: OnnxStorage = {
    label: quoteName(name),
    byteLength: numel(dims) * 4,
    fileBytes: 0,
    place: 0,
    async open(read) {
      const value = await find(read);
      let left = numel(dims) * 4;
      return {
        read(into) {
          const part = into.subarray(0, left);
          const view = new DataView(part.buffer, part.byteOffset, part.byteLength);
          for (let at = 0; at < part.length; at += 4) view.setFloat32(at, value, true);
          left -= part.length;
          return Promise.resolve(part.length);
        },
        skip(count) {
          const skipped = Math.min(count, left);
          left -= skipped;
          return Promise.resolve(skipped);
        },
      };
    },
  };
  return {
    name,
    shape: dims,
    dtype: 'F32',
    layout: { storage, byteOffset: 0, width: 4, dims, strides: contiguousStrides(dims) },
  };
}

export function zeros(name: string, count: number): OnnxWeight {
  return made(name, [count], async () => 0);
}

/** A float32 vector, such as batch norm's variance, with a number added to each value. */
export function shifted(weight: OnnxWeight, by: number): OnnxWeight {
  const { layout } = weight;
  const source = layout.storage as OnnxStorage;
  const storage: OnnxStorage = {
    ...source,
    async open(read) {
      const data = await source.open(read);
      return mapped(data, 4, (from, to, count) => {
        for (let i = 0; i < count; i++) to.setFloat32(4 * i, from.getFloat32(4 * i, true) + by, true);
      });
    },
  };
  return { ...weight, layout: { ...layout, storage } };
}

function dequantizing(
  data: DataReader,
  { width, signed }: { width: 1 | 2 | 4; signed: boolean },
  scaleOf: (index: number) => readonly [scale: number, zero: number],
): DataReader {
  const get = (view: DataView, at: number): number => {
    if (width === 1) return signed ? view.getInt8(at) : view.getUint8(at);
    if (width === 2) return signed ? view.getInt16(at, true) : view.getUint16(at, true);
    return view.getInt32(at, true);
  };
  return mapped(data, width, (from, to, count, first) => {
    for (let i = 0; i < count; i++) {
      const [scale, zero] = scaleOf(first + i);
      to.setFloat32(4 * i, Math.fround(scale * (get(from, width * i) - zero)), true);
    }
  });
}

type Convert = (from: DataView, to: DataView, count: number, first: number) => void;

/** Values of `width` bytes turned into float32 as they pass. */
function mapped(data: DataReader, width: number, convert: Convert): DataReader {
  let first = 0;
  return {
    async read(into) {
      const raw = new Uint8Array((into.length / 4) * width);
      const count = Math.floor((await data.read(raw)) / width);
      convert(new DataView(raw.buffer), new DataView(into.buffer, into.byteOffset, into.byteLength), count, first);
      first += count;
      return count * 4;
    },
    async skip(count) {
      const skipped = Math.floor((await data.skip((count / 4) * width)) / width);
      first += skipped;
      return skipped * 4;
    },
  };
}

async function firstFloat(read: ReadTensor, tensor: OnnxTensor): Promise<number> {
  const bytes = new Uint8Array(4);
  await (await read(tensor)).read(bytes);
  return new DataView(bytes.buffer).getFloat32(0, true);
}

/** The values of a small tensor. */
async function valuesOf({ layout, dtype, shape }: OnnxWeight, read: ReadTensor): Promise<Float32Array> {
  const data = await (layout.storage as OnnxStorage).open(read);
  const integers = INTEGERS[dtype];
  const bytes = new Uint8Array(numel(shape) * 4);
  if (integers) await dequantizing(data, integers, () => [1, 0]).read(bytes);
  else await data.read(bytes);
  return new Float32Array(bytes.buffer);
}

/** @throws VGGNetError `WEIGHTS_MISMATCH` for an attribute that the operator does not have */
export function attributesOf(node: OnnxNode): Attributes {
  return new Attributes(node, (what) => differ(`${describe(node)}: ${what}`));
}

export function describe(node: OnnxNode): string {
  const name = node.name === '' ? '' : ` ${quoteName(node.name)}`;
  return `node ${node.index}${name} (${node.op.slice(0, 40)})`;
}

export function differ(what: string): never {
  throw new VGGNetError('WEIGHTS_MISMATCH', `This graph is not a VGG network: ${what}`);
}
