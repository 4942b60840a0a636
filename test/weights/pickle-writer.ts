import { bytesOfText, concat } from './zip-writer.js';

/* Pickles, opcode by opcode, and the legacy checkpoints that are made of them. */

type Part = Uint8Array | number;

const op = (...parts: readonly Part[]): Uint8Array =>
  concat(parts.map((part) => (typeof part === 'number' ? Uint8Array.of(part) : part)));

const le = (value: number, width: 2 | 4 | 8): Uint8Array => {
  const view = new DataView(new ArrayBuffer(8));
  view.setBigUint64(0, BigInt(value), true);
  return new Uint8Array(view.buffer, 0, width);
};

export const PROTO: Uint8Array = op(0x80, 2);
export const STOP: Uint8Array = op(0x2e);
export const MARK: Uint8Array = op(0x28);
export const REDUCE: Uint8Array = op(0x52);
export const BUILD: Uint8Array = op(0x62);
export const EMPTY_DICT: Uint8Array = op(0x7d);
export const EMPTY_TUPLE: Uint8Array = op(0x29);
export const NONE: Uint8Array = op(0x4e);
export const FALSE: Uint8Array = op(0x89);
export const TRUE: Uint8Array = op(0x88);
export const BINPERSID: Uint8Array = op(0x51);

export const opcode = (...codes: readonly number[]): Uint8Array => Uint8Array.from(codes);
export const global = (module: string, name: string): Uint8Array => op(0x63, bytesOfText(`${module}\n${name}\n`));
export const text = (value: string): Uint8Array => {
  const bytes = bytesOfText(value);
  return op(0x58, le(bytes.length, 4), bytes);
};
/** As Python 2 writes a string. */
export const text2 = (value: string): Uint8Array => op(0x55, value.length, bytesOfText(value));
export const int = (value: number): Uint8Array =>
  value >= 0 && value < 256 ? op(0x4b, value) : op(0x4a, le(value, 4));
export const put = (index: number): Uint8Array => op(0x71, index);
export const get = (index: number): Uint8Array => op(0x68, index);
export const tuple = (...items: readonly Uint8Array[]): Uint8Array => op(0x28, ...items, 0x74);
export const list = (...items: readonly Uint8Array[]): Uint8Array => op(0x5d, 0x28, ...items, 0x65);
export const dict = (...pairs: readonly (readonly [Uint8Array, Uint8Array])[]): Uint8Array =>
  op(0x7d, 0x28, ...pairs.flat(), 0x75);
export const call = (callee: Uint8Array, ...args: readonly Uint8Array[]): Uint8Array =>
  op(callee, tuple(...args), 0x52);
export const ordered = (...pairs: readonly (readonly [Uint8Array, Uint8Array])[]): Uint8Array =>
  op(global('collections', 'OrderedDict'), 0x29, 0x52, 0x28, ...pairs.flat(), 0x75);
export const pickle = (...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> => concat([PROTO, ...parts, STOP]);

export const storage = (
  key: string,
  count: number,
  type = 'FloatStorage',
  more: readonly Uint8Array[] = [],
): Uint8Array => op(tuple(text('storage'), global('torch', type), text(key), text('cpu'), int(count), ...more), 0x51);

/** `_rebuild_tensor_v2` of a storage. */
export const tensor = (
  from: Uint8Array,
  shape: readonly number[],
  strides: readonly number[],
  offset = 0,
): Uint8Array =>
  call(
    global('torch._utils', '_rebuild_tensor_v2'),
    from,
    int(offset),
    tuple(...shape.map(int)),
    tuple(...strides.map(int)),
    FALSE,
    ordered(),
  );

export const floats = (...values: readonly number[]): Uint8Array => new Uint8Array(new Float32Array(values).buffer);

export interface LegacyParts {
  readonly magic?: Uint8Array;
  readonly version?: number;
  readonly littleEndian?: boolean;
  readonly keys?: readonly string[];
  readonly counts?: readonly number[];
}

/** A checkpoint in the legacy format. */
export function legacy(
  object: Uint8Array,
  storages: Readonly<Record<string, Uint8Array>>,
  { magic, version = 1001, littleEndian = true, keys = Object.keys(storages), counts }: LegacyParts = {},
): Uint8Array<ArrayBuffer> {
  const number = opcode(0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19);
  const system = dict(
    [text('protocol_version'), int(1001)],
    [text('little_endian'), littleEndian ? TRUE : FALSE],
    [text('type_sizes'), dict([text('int'), int(4)])],
  );
  const data = Object.values(storages).map((bytes, i) => concat([le(counts?.[i] ?? bytes.length / 4, 8), bytes]));
  return concat([
    magic ?? pickle(number),
    pickle(int(version)),
    pickle(system),
    pickle(object),
    pickle(list(...keys.map(text))),
    ...data,
  ]);
}
