import { concat } from '../zip-writer.js';
import type { Random } from './random.js';

/* Protocol buffers as trees of fields, changed in number, type, order, value and depth. */

type Bytes = Uint8Array<ArrayBuffer>;

interface Field {
  readonly number: number;
  readonly type: number;
  readonly value: bigint | Bytes | readonly Field[];
}

function varint(value: bigint): Bytes {
  const bytes: number[] = [];
  let rest = BigInt.asUintN(64, value);
  do {
    const low = Number(rest & 0x7fn);
    rest >>= 7n;
    bytes.push(rest > 0n ? low | 0x80 : low);
  } while (rest > 0n);
  return Uint8Array.from(bytes);
}

function readVarint(bytes: Uint8Array, at: number): [value: bigint, next: number] | undefined {
  let value = 0n;
  for (let i = 0; i < 10; i++) {
    const byte = bytes[at + i];
    if (byte === undefined) return undefined;
    value |= BigInt(byte & 0x7f) << BigInt(7 * i);
    if (byte < 0x80) return [value, at + i + 1];
  }
  return undefined;
}

/** Fields in fields that are messages: a model's graph, and in it nodes and tensors, and in nodes attributes. */
function isMessage(path: string): boolean {
  return /^(?:7|7\.1|7\.5|7\.1[12]|7\.1\.5|7\.1\.5\.5|7\.5\.13)$/.test(path);
}

export function parse(bytes: Uint8Array, path = ''): Field[] {
  const fields: Field[] = [];
  for (let at = 0; at < bytes.length; ) {
    const tag = readVarint(bytes, at);
    if (!tag) break;
    const number = Number(tag[0] >> 3n);
    const type = Number(tag[0] & 7n);
    at = tag[1];
    if (type === 0) {
      const read = readVarint(bytes, at);
      if (!read) break;
      fields.push({ number, type, value: read[0] });
      at = read[1];
    } else if (type === 2) {
      const read = readVarint(bytes, at);
      if (!read) break;
      const inner = bytes.slice(read[1], read[1] + Number(read[0]));
      const here = path === '' ? `${number}` : `${path}.${number}`;
      fields.push({ number, type, value: isMessage(here) ? parse(inner, here) : inner });
      at = read[1] + Number(read[0]);
    } else {
      const width = type === 5 ? 4 : 8;
      fields.push({ number, type, value: bytes.slice(at, at + width) });
      at += width;
    }
  }
  return fields;
}

export function serialize(fields: readonly Field[]): Bytes {
  return concat(
    fields.flatMap(({ number, type, value }) => {
      const tag = varint((BigInt(number) << 3n) | BigInt(type));
      if (typeof value === 'bigint') return [tag, varint(value)];
      const inner = value instanceof Uint8Array ? value : serialize(value);
      return type === 2 ? [tag, varint(BigInt(inner.length)), inner] : [tag, inner];
    }),
  );
}

/** Every list of fields in a tree, to change one. */
function listsIn(fields: readonly Field[]): (readonly Field[])[] {
  const inner = fields.flatMap(({ value }) => (Array.isArray(value) ? listsIn(value as readonly Field[]) : []));
  return [fields, ...inner];
}

const NAMES = [
  'x',
  'w0',
  'w1',
  'b1',
  'v0',
  'v1',
  'v5',
  '',
  'Conv',
  'Relu',
  'Gemm',
  'MaxPool',
  'Transpose',
  'Cast',
  'Identity',
  'Constant',
  'ConstantOfShape',
  'DequantizeLinear',
  'Shape',
  'Reshape',
  'transB',
  'perm',
  'value',
  'pads',
  'location',
  '../x',
];

function anyField(random: Random): Field {
  const number = 1 + random.below(26);
  switch (random.below(4)) {
    case 0:
      return { number, type: 0, value: BigInt(random.extreme()) };
    case 1:
      return { number, type: 2, value: new TextEncoder().encode(random.pick(NAMES)) };
    case 2:
      return { number, type: 2, value: random.bytes(40) };
    default:
      return { number, type: random.pick([1, 5]), value: random.bytes(8) };
  }
}

function changed(field: Field, random: Random): Field {
  switch (random.below(5)) {
    case 0:
      return { ...field, number: 1 + random.below(26) };
    case 1:
      return typeof field.value === 'bigint'
        ? { ...field, value: random.chance(3) ? -1n : BigInt(random.extreme()) }
        : { ...field, value: new TextEncoder().encode(random.pick(NAMES)), type: 2 };
    case 2:
      // A message in itself.
      return { ...field, type: 2, value: [field] };
    case 3:
      return field.value instanceof Uint8Array
        ? { ...field, value: field.value.slice(0, random.below(field.value.length + 1)) }
        : field;
    default:
      return {
        ...field,
        type: random.pick([0, 1, 2, 3, 5, 6]) === 0 ? 0 : 2,
        value: typeof field.value === 'bigint' ? varint(field.value) : field.value,
      };
  }
}

function replaceList(fields: readonly Field[], from: readonly Field[], to: readonly Field[]): readonly Field[] {
  if (fields === from) return to;
  return fields.map((field) =>
    Array.isArray(field.value) ? { ...field, value: replaceList(field.value as readonly Field[], from, to) } : field,
  );
}

/** A message with a few changes. */
export function mutateProtobuf(bytes: Uint8Array, random: Random): Bytes {
  let tree: readonly Field[] = parse(bytes);
  for (let count = 1 + random.below(4); count > 0; count--) {
    const list = random.pick(listsIn(tree));
    const at = random.below(list.length + 1);
    const field = list[at];
    const next =
      field && random.chance(2)
        ? list.with(at, changed(field, random))
        : random.chance(40)
          ? [...list, ...new Array<Field>(random.pick([10, 2000])).fill(field ?? anyField(random))]
          : random.mutate(list, () => anyField(random));
    tree = replaceList(tree, list, next);
  }
  return serialize(tree);
}
