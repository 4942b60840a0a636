import type { DataReader } from '../bytes/cursor.js';
import { quoteName } from '../safetensors/header.js';

/*
 * NumPy's .npy format: '\x93NUMPY', version (1, 2 or 3, and a zero), the header's length (2 bytes in version 1, else
 * 4), the header, which is a Python dict as text, and the values.
 * Format: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
 */

export interface NpyHeader {
  readonly shape: readonly number[];
  /** The first index runs fastest. */
  readonly fortranOrder: boolean;
  /** As safetensors spells it, or NumPy's own description of one that is not read. */
  readonly dtype: string;
  /** Bytes of an element. */
  readonly width: number;
  /** The highest byte of an element comes first. */
  readonly bigEndian: boolean;
  /** Bytes before the values. */
  readonly dataStart: number;
}

type Fail = (what: string) => never;

const MAGIC = '\x93NUMPY';
const MAX_HEADER_BYTES = 2 ** 16;
const MAX_DIMENSIONS = 64;

const DTYPES: Readonly<Record<string, string>> = {
  f2: 'F16',
  f4: 'F32',
  f8: 'F64',
  b1: 'BOOL',
  i1: 'I8',
  i2: 'I16',
  i4: 'I32',
  i8: 'I64',
  u1: 'U8',
  u2: 'U16',
  u4: 'U32',
  u8: 'U64',
  c8: 'C64',
};

/** Reads the header, and leaves the reader at the values. */
export async function readNpyHeader(data: DataReader, fail: Fail): Promise<NpyHeader> {
  const start = await take(data, 10, fail);
  if (String.fromCharCode(...start.subarray(0, 6)) !== MAGIC) fail('it is no .npy array');
  const [major = 0, minor = 0] = start.subarray(6, 8);
  if (major < 1 || major > 3 || minor !== 0) fail(`expected version 1.0, 2.0 or 3.0 of .npy, got ${major}.${minor}`);
  let length = (start[8] as number) + 256 * (start[9] as number);
  let dataStart = 10;
  if (major > 1) {
    const more = await take(data, 2, fail);
    length += 2 ** 16 * ((more[0] as number) + 256 * (more[1] as number));
    dataStart = 12;
  }
  if (length > MAX_HEADER_BYTES) fail(`a .npy header of ${length} bytes, over the limit of ${MAX_HEADER_BYTES}`);
  const header = await take(data, length, fail);
  const text = new TextDecoder(major === 3 ? 'utf-8' : 'latin1').decode(header);
  return { ...parseHeader(text, fail), dataStart: dataStart + length };
}

async function take(data: DataReader, count: number, fail: Fail): Promise<Uint8Array> {
  const bytes = new Uint8Array(count);
  const got = await data.read(bytes);
  return got < count ? fail('it ends within its .npy header') : bytes;
}

const DICT = /^\{(.*)\}\s*$/s;
const FIELD = /\s*'(\w{1,20})'\s*:\s*(?:(\[)|(?:'([^'\\]{0,40})'|(True|False)|\(([\d\sL,]{0,2000})\))\s*(?:,|$))/y;

/** `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`, and nothing else. */
function parseHeader(text: string, fail: Fail): Omit<NpyHeader, 'dataStart'> {
  const inner = DICT.exec(text)?.[1]?.trimEnd() ?? fail(`its .npy header is no dict: ${quoteName(text)}`);
  let descr: string | undefined;
  let fortranOrder: boolean | undefined;
  let shape: readonly number[] | undefined;
  let at = 0;
  const seen = new Set<string>();
  while (at < inner.length) {
    FIELD.lastIndex = at;
    const match = FIELD.exec(inner);
    if (!match) return fail(`its .npy header cannot be read from ${quoteName(inner.slice(at))}`);
    at = FIELD.lastIndex;
    const [, key = '', list, string, bool, tuple] = match;
    if (seen.has(key)) fail(`its .npy header has ${quoteName(key)} twice`);
    seen.add(key);
    if (list !== undefined) fail('it has fields, and not one dtype');
    if (key === 'descr') descr = string;
    else if (key === 'fortran_order' && bool !== undefined) fortranOrder = bool === 'True';
    else if (key === 'shape' && tuple !== undefined) shape = parseShape(tuple, fail);
    else fail(`its .npy header has a wrong ${quoteName(key)}`);
  }
  if (descr === undefined || fortranOrder === undefined || shape === undefined) {
    return fail('its .npy header must have descr, fortran_order and shape');
  }
  return { shape, fortranOrder, ...readDescr(descr, fail) };
}

/** `3, 4`, or `3,` for one dimension; with an L behind a number, as Python 2 writes it. */
function parseShape(text: string, fail: Fail): readonly number[] {
  const parts = text.trim() === '' ? [] : text.replace(/,\s*$/, '').split(',');
  if (parts.length > MAX_DIMENSIONS) fail(`it has ${parts.length} dimensions`);
  let count = 1;
  return parts.map((part) => {
    const size = /^\s*\d+L?\s*$/.test(part) ? Number.parseInt(part, 10) : Number.NaN;
    count *= size;
    if (!Number.isSafeInteger(size) || !Number.isSafeInteger(count * 8)) fail(`its shape (${text}) is none`);
    return size;
  });
}

function readDescr(descr: string, fail: Fail): Pick<NpyHeader, 'dtype' | 'width' | 'bigEndian'> {
  const match = /^([<>|=])([a-zA-Z])(\d{1,6})$/.exec(descr);
  if (descr === '|O' || descr === 'O') fail('it has Python objects, which are not read');
  if (!match) return fail(`its dtype ${quoteName(descr)} is not known`);
  const [, order, kind = '', size = ''] = match;
  const width = Number(size) * (kind === 'U' ? 4 : 1);
  return { dtype: DTYPES[`${kind}${size}`] ?? descr, width, bigEndian: order === '>' && width > 1 };
}
