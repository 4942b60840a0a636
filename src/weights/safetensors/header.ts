import { messageOf, VGGNetError } from '../../errors.js';
import { formatShape } from '../../tensor.js';
import { DTYPE_BITS } from '../dtype.js';
import type { WeightEntry } from '../source.js';

/*
 * A safetensors file is: the header's length (8 bytes, little-endian), the header (JSON), the tensors' bytes.
 * Format: https://github.com/huggingface/safetensors. The checks are those of its Rust implementation, and more:
 * the number of values has a limit, and a name that comes twice, a byte before the '{' and a tensor called
 * __proto__ are refused.
 */

/** A longer header is refused, as by the Rust implementation. */
export const MAX_HEADER_BYTES = 100_000_000;

/** As deep as the Rust implementation reads. */
const MAX_DEPTH = 128;
/**
 * Commas of a header outside strings: tens of thousands of tensors. A VGG has a few hundred; a header of millions
 * would take half a minute to parse.
 */
const MAX_COMMAS = 2 ** 18;

/** A tensor and where its bytes are, counted from the end of the header. */
export interface TensorRecord extends WeightEntry {
  readonly begin: number;
  readonly end: number;
}

export interface Header {
  /** In the order of their bytes, which they cover without a gap. */
  readonly tensors: readonly TensorRecord[];
  readonly metadata: Readonly<Record<string, string>>;
  /** Bytes of all tensors together. */
  readonly dataBytes: number;
}

/**
 * Parses a header.
 * @param label what messages call the file
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` that names the tensor and says what is wrong
 */
export function parseHeader(bytes: Uint8Array, label: string): Header {
  const fail = (what: string): never => {
    throw new VGGNetError('INVALID_WEIGHTS_FILE', `${label}: ${what}`);
  };
  checkExtent(bytes, fail);
  let text: string;
  try {
    text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return fail('the header is not UTF-8');
  }
  if (!text.startsWith('{')) fail(`the header must start with '{', got ${quoteName(text.slice(0, 1))}`);
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (error) {
    return fail(`the header is not JSON (${trim(messageOf(error))})`);
  }
  const duplicate = findDuplicateKey(text);
  if (duplicate !== undefined) fail(`the name ${quoteName(duplicate)} comes twice in the header`);

  let metadata: Readonly<Record<string, string>> = {};
  const tensors: TensorRecord[] = [];
  for (const [name, value] of Object.entries(parsed as object)) {
    if (name === '__metadata__') metadata = readMetadata(value, fail);
    else tensors.push(readRecord(name, value, fail));
  }
  tensors.sort((a, b) => a.begin - b.begin || a.end - b.end);
  return { tensors, metadata, dataBytes: checkCover(tensors, fail) };
}

type Fail = (what: string) => never;

/** Refuses what would take long to parse. The bytes may be anything. */
function checkExtent(bytes: Uint8Array, fail: Fail): void {
  let depth = 0;
  let commas = 0;
  for (let i = 0; i < bytes.length; i++) {
    switch (bytes[i]) {
      case 0x5b: // [
      case 0x7b: // {
        if (++depth > MAX_DEPTH) fail(`the header is nested over ${MAX_DEPTH} deep`);
        break;
      case 0x5d: // ]
      case 0x7d: // }
        depth--;
        break;
      case 0x2c: // ,
        if (++commas > MAX_COMMAS) fail(`the header lists over ${MAX_COMMAS} values`);
        break;
      case 0x22: // "
        for (i++; i < bytes.length && bytes[i] !== 0x22; i++) if (bytes[i] === 0x5c) i++;
        break;
    }
  }
}

function readMetadata(value: unknown, fail: Fail): Readonly<Record<string, string>> {
  if (value === null) return {};
  if (typeof value !== 'object' || Array.isArray(value)) return fail(`__metadata__ must be an object of strings`);
  for (const [key, text] of Object.entries(value)) {
    if (typeof text !== 'string') fail(`__metadata__: ${quoteName(key)} must be a string, got ${typeof text}`);
  }
  return Object.freeze(value as Record<string, string>);
}

function readRecord(name: string, value: unknown, fail: Fail): TensorRecord {
  const at = `tensor ${quoteName(name)}`;
  if (name === '__proto__') fail(`${at} has a name that is not allowed`);
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    return fail(`${at} must be an object with dtype, shape and data_offsets`);
  }
  const { dtype, shape, data_offsets: offsets } = value as Record<string, unknown>;
  const bits = typeof dtype === 'string' ? DTYPE_BITS.get(dtype) : undefined;
  if (typeof dtype !== 'string' || bits === undefined) {
    return fail(`${at} has an unknown dtype ${quoteName(String(JSON.stringify(dtype)))}`);
  }
  if (!isSizeList(shape)) return fail(`${at}: its shape must be a list of integers from 0 to 2^53 - 1`);
  if (!isSizeList(offsets) || offsets.length !== 2) {
    return fail(`${at}: its data_offsets must be two integers from 0 to 2^53 - 1`);
  }
  const [begin, end] = offsets as [number, number];
  if (begin > end) fail(`${at}: its data_offsets [${begin}, ${end}] go backwards`);
  let count = 1;
  for (const size of shape) {
    // Every step, as a later 0 must not hide an overflow.
    count *= size;
    if (!Number.isSafeInteger(count)) fail(`${at}: its shape ${describeShape(shape)} has over 2^53 elements`);
  }
  if (!Number.isSafeInteger(count * bits)) fail(`${at}: its shape ${describeShape(shape)} has over 2^53 bits`);
  if (count * bits !== (end - begin) * 8) {
    fail(
      `${at}: shape ${describeShape(shape)} of ${dtype} needs ${(count * bits) / 8} bytes, its data_offsets [${begin}, ${end}] span ${end - begin}`,
    );
  }
  return { name, dtype, shape: Object.freeze(shape), begin, end };
}

/** The tensors must cover the data without overlaps or holes. Gives where they end. */
function checkCover(tensors: readonly TensorRecord[], fail: Fail): number {
  let position = 0;
  let previous = '';
  for (const { name, begin, end } of tensors) {
    const at = `tensor ${quoteName(name)}`;
    if (begin < position)
      fail(`${at} starts at byte ${begin} and overlaps ${quoteName(previous)}, which ends at ${position}`);
    if (begin > position) fail(`${at} starts at byte ${begin}, and bytes ${position} to ${begin} belong to no tensor`);
    position = end;
    previous = name;
  }
  return position;
}

function isSizeList(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((size) => Number.isSafeInteger(size) && size >= 0);
}

/**
 * The first key that comes twice in the outer object or in an object in it. `JSON.parse` keeps the last one and
 * says nothing, so two readers of one file could see different weights.
 * @param json valid JSON
 */
function findDuplicateKey(json: string): string | undefined {
  const keys: (Set<string> | undefined)[] = [];
  for (let i = 0; i < json.length; i++) {
    switch (json.charCodeAt(i)) {
      case 0x7b: // {
        keys.push(keys.length < 2 ? new Set() : undefined);
        break;
      case 0x5b: // [
        keys.push(undefined);
        break;
      case 0x7d: // }
      case 0x5d: // ]
        keys.pop();
        break;
      case 0x22: {
        const end = endOfString(json, i);
        const seen = keys.at(-1);
        if (seen && isKey(json, end)) {
          const raw = json.slice(i + 1, end);
          const key = raw.includes('\\') ? (JSON.parse(`"${raw}"`) as string) : raw;
          if (seen.has(key)) return key;
          seen.add(key);
        }
        i = end;
      }
    }
  }
  return undefined;
}

/** Index of the quote that ends the string whose first quote is at `start`. */
function endOfString(json: string, start: number): number {
  let i = start + 1;
  for (;;) {
    const code = json.charCodeAt(i);
    if (code === 0x22) return i;
    i += code === 0x5c ? 2 : 1;
  }
}

function isKey(json: string, end: number): boolean {
  let i = end + 1;
  while (' \t\n\r'.includes(json.charAt(i))) i++;
  return json.charAt(i) === ':';
}

/** A tensor's name for a message: quoted, escaped, and cut if it is long. */
export function quoteName(name: string): string {
  return `'${trim(JSON.stringify(name).slice(1, -1))}'`;
}

function trim(text: string): string {
  return text.length > 120 ? `${text.slice(0, 117)}…` : text;
}

function describeShape(shape: readonly number[]): string {
  return shape.length > 16 ? `of ${shape.length} dimensions` : formatShape(shape);
}
