import { quoteName } from '../safetensors/header.js';
import type { ByteCursor } from './cursor.js';

/*
 * Zip archives: local header and data of each entry, then the central directory, which has the same and where each
 * entry begins, then the end record. Format: PKWARE's APPNOTE.TXT. An archive that lists a name twice, overlaps,
 * leaves room before the directory's end, or is split or encrypted is refused: two readers could see two files in it.
 */

export interface ZipEntry {
  readonly name: string;
  /** 0 stored, 8 deflated. */
  readonly method: number;
  readonly crc: number;
  /** Bytes in the archive. */
  readonly compressedSize: number;
  /** Bytes when unpacked. */
  readonly size: number;
  readonly headerOffset: number;
  /** Where the next entry begins, or the directory. Nothing but a data descriptor lies before it. */
  readonly limit: number;
}

/** What stands before an entry's data. */
export interface LocalHeader {
  readonly name: string;
  readonly method: number;
  readonly offset: number;
  /** Of the data in the archive; undefined if it follows the data. */
  readonly size: number | undefined;
  /** Of the data when unpacked; undefined if it follows the data. */
  readonly crc: number | undefined;
  /** Whether a descriptor follows the data, with the size once more. */
  readonly described: boolean;
}

const LOCAL_HEADER = 0x0403_4b50;
const CENTRAL_HEADER = 0x0201_4b50;
const DATA_DESCRIPTOR = 0x0807_4b50;
const END_RECORD = 0x0605_4b50;
const END_RECORD_64 = 0x0606_4b50;
const END_LOCATOR_64 = 0x0706_4b50;

const LOCAL_BYTES = 30;
const CENTRAL_BYTES = 46;
const END_BYTES = 22;
const END_64_BYTES = 56;
const LOCATOR_BYTES = 20;
const MAX_COMMENT = 0xffff;
/** A directory of some hundred thousand entries; a VGG has a few dozen. */
const MAX_DIRECTORY_BYTES = 2 ** 24;
/** Asked for at first where an archive's entries end. */
const REST_BYTES = 2 ** 16;

const ENCRYPTED = 0x2041;
const SIZES_FOLLOW = 0x8;

type Fail = (what: string) => never;

const DECODER = new TextDecoder();

/**
 * Reads the central directory of bytes that can seek.
 * @returns the entries, by their place in the archive
 * @throws VGGNetError `INVALID_WEIGHTS_FILE`
 */
export async function readDirectory(cursor: ByteCursor): Promise<ZipEntry[]> {
  const size = cursor.size as number;
  const tailStart = Math.max(0, size - END_BYTES - MAX_COMMENT - LOCATOR_BYTES - END_64_BYTES);
  cursor.seek(tailStart);
  const tail = await cursor.take(size - tailStart, 'the end of the archive');
  const end = findEnd(tail, tailStart, (what) => cursor.fail(what));
  if (end.offset >= tailStart) return parseDirectory(tail, tailStart, (what) => cursor.fail(what));
  checkDirectorySize(end, (what) => cursor.fail(what));
  cursor.seek(end.offset);
  const all = await cursor.take(size - end.offset, 'the central directory');
  return parseDirectory(all, end.offset, (what) => cursor.fail(what));
}

/**
 * Reads the rest of a stream, from the first central header on.
 * @throws VGGNetError `INVALID_WEIGHTS_FILE`
 */
export async function readRest(cursor: ByteCursor): Promise<ZipEntry[]> {
  const start = cursor.position;
  let rest = await cursor.peek(REST_BYTES);
  // Its length is not known, so it is asked for in growing parts.
  for (let asked = REST_BYTES; rest.length === asked; rest = await cursor.peek(asked)) {
    if (asked >= MAX_DIRECTORY_BYTES) {
      cursor.fail(`over ${MAX_DIRECTORY_BYTES} bytes follow the entries, from byte ${start}`);
    }
    asked *= 4;
  }
  const bytes = rest.slice();
  await cursor.skip(bytes.length);
  const { offset } = findEnd(bytes, start, (what) => cursor.fail(what));
  if (offset > start) cursor.fail(`the entries end at byte ${start}, and the central directory begins at ${offset}`);
  return parseDirectory(bytes, start, (what) => cursor.fail(what));
}

interface End {
  readonly offset: number;
  readonly size: number;
  readonly count: number;
  /** Where the directory ends. */
  readonly position: number;
}

function checkDirectorySize({ size, offset }: End, fail: Fail): void {
  if (size > MAX_DIRECTORY_BYTES) {
    fail(`the central directory at byte ${offset} has ${size} bytes, over the limit of ${MAX_DIRECTORY_BYTES}`);
  }
}

/** @param bytes the last bytes of the archive, of which `start` is the first's position */
function findEnd(bytes: Uint8Array, start: number, fail: Fail): End {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = bytes.length - END_BYTES;
  const isEnd = (i: number): boolean =>
    view.getUint32(i, true) === END_RECORD && i + END_BYTES + view.getUint16(i + 20, true) === bytes.length;
  while (at >= 0 && !isEnd(at)) at--;
  if (at < 0) fail('this zip archive has no end record: it is cut off, or bytes follow it');
  const disks = [view.getUint16(at + 4, true), view.getUint16(at + 6, true)];
  const here = view.getUint16(at + 8, true);
  let count = view.getUint16(at + 10, true);
  let size = view.getUint32(at + 12, true);
  let offset = view.getUint32(at + 16, true);
  let position = start + at;
  if (disks.some((disk) => disk !== 0 && disk !== 0xffff) || here !== count) fail('this zip archive is one of several');
  const locator = at - LOCATOR_BYTES;
  if (locator >= 0 && view.getUint32(locator, true) === END_LOCATOR_64) {
    const record = safe(view.getBigUint64(locator + 8, true), 'the end record', fail);
    const i = record - start;
    if (i < 0 || i + END_64_BYTES > locator || view.getUint32(i, true) !== END_RECORD_64) {
      fail(`the zip64 end record is not at byte ${record}, as byte ${start + locator} says`);
    }
    count = safe(view.getBigUint64(i + 32, true), 'the number of entries', fail);
    size = safe(view.getBigUint64(i + 40, true), "the central directory's size", fail);
    offset = safe(view.getBigUint64(i + 48, true), "the central directory's place", fail);
    position = record;
  }
  if (offset + size !== position) {
    fail(`the central directory must be ${size} bytes from byte ${offset} to the end record, which is at ${position}`);
  }
  return { offset, size, count, position };
}

function parseDirectory(bytes: Uint8Array, start: number, fail: Fail): ZipEntry[] {
  const end = findEnd(bytes, start, fail);
  checkDirectorySize(end, fail);
  if (end.offset < start) fail(`the central directory begins at byte ${end.offset}, within an entry`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const stop = end.position - start;
  const names = new Set<string>();
  const found: Omit<ZipEntry, 'limit'>[] = [];
  let at = end.offset - start;
  while (at < stop) {
    const place = `the central directory at byte ${start + at}`;
    if (at + CENTRAL_BYTES > stop || view.getUint32(at, true) !== CENTRAL_HEADER) fail(`${place} has no entry`);
    const nameStart = at + CENTRAL_BYTES;
    const extraStart = nameStart + view.getUint16(at + 28, true);
    const extraEnd = extraStart + view.getUint16(at + 30, true);
    const next = extraEnd + view.getUint16(at + 32, true);
    if (next > stop) fail(`${place} ends within an entry`);
    const name = decodeName(bytes.subarray(nameStart, extraStart));
    const entry = `entry ${quoteName(name)}`;
    checkFlags(view.getUint16(at + 8, true), entry, fail);
    if (names.has(name)) fail(`two entries are called ${quoteName(name)}, the second at byte ${start + at}`);
    names.add(name);
    const disk = view.getUint16(at + 34, true);
    if (disk !== 0 && disk !== 0xffff) fail(`${entry} is in another archive`);
    const raw = [view.getUint32(at + 24, true), view.getUint32(at + 20, true), view.getUint32(at + 42, true)];
    const [size = 0, compressedSize = 0, headerOffset = 0] = widen64(raw, view, extraStart, extraEnd, entry, fail);
    found.push({
      name,
      method: view.getUint16(at + 10, true),
      crc: view.getUint32(at + 16, true),
      size,
      compressedSize,
      headerOffset,
    });
    at = next;
  }
  if (found.length !== end.count)
    fail(`the central directory has ${found.length} entries, and should have ${end.count}`);
  found.sort((a, b) => a.headerOffset - b.headerOffset);
  return found.map((entry, i) => {
    const limit = found[i + 1]?.headerOffset ?? end.offset;
    const least = entry.headerOffset + LOCAL_BYTES + entry.compressedSize;
    if (!(least <= limit)) {
      fail(
        `entry ${quoteName(entry.name)} at byte ${entry.headerOffset} has ${entry.compressedSize} bytes and overlaps what begins at ${limit}`,
      );
    }
    return { ...entry, limit };
  });
}

/** Sizes of 0xffffffff are in the zip64 field, in order. */
function widen64(
  raw: readonly number[],
  view: DataView,
  start: number,
  end: number,
  what: string,
  fail: Fail,
): number[] {
  if (!raw.includes(0xffff_ffff)) return [...raw];
  for (let at = start; at + 4 <= end; ) {
    const length = view.getUint16(at + 2, true);
    const stop = at + 4 + length;
    if (view.getUint16(at, true) !== 1 || stop > end) {
      at = stop;
      continue;
    }
    let field = at + 4;
    return raw.map((value) => {
      if (value !== 0xffff_ffff) return value;
      if (field + 8 > stop) fail(`${what} lacks a size in its zip64 field`);
      const wide = safe(view.getBigUint64(field, true), `a size of ${what}`, fail);
      field += 8;
      return wide;
    });
  }
  return [...raw];
}

function safe(value: bigint, what: string, fail: Fail): number {
  if (value > Number.MAX_SAFE_INTEGER) fail(`${what} is ${value}, over 2^53`);
  return Number(value);
}

function checkFlags(flags: number, entry: string, fail: Fail): void {
  if (flags & ENCRYPTED) fail(`${entry} is encrypted`);
}

/** Names that are not UTF-8 are kept apart all the same: none of them is one that is looked for. */
function decodeName(bytes: Uint8Array): string {
  return DECODER.decode(bytes);
}

/**
 * Goes to an entry's data.
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` if the archive says one thing of it here and another in its directory
 */
export async function seekEntry(cursor: ByteCursor, entry: ZipEntry): Promise<void> {
  const at = `entry ${quoteName(entry.name)}`;
  cursor.seek(entry.headerOffset);
  const header = await readLocalHeader(cursor);
  if (!header) return cursor.fail(`${at} has no header at byte ${entry.headerOffset}`);
  if (header.name !== entry.name) {
    cursor.fail(`${at} is called ${quoteName(header.name)} in its header at byte ${entry.headerOffset}`);
  }
  if (header.method !== entry.method || (header.size ?? entry.compressedSize) !== entry.compressedSize) {
    cursor.fail(`${at} has another size or compression in its header at byte ${entry.headerOffset}`);
  }
  if (header.crc !== undefined && header.crc !== entry.crc) {
    cursor.fail(`${at} has another checksum in its header at byte ${entry.headerOffset}`);
  }
  const start = cursor.position;
  const end = start + entry.compressedSize;
  if (end > entry.limit) {
    cursor.fail(
      `${at} has ${entry.compressedSize} bytes from byte ${start} and overlaps what begins at ${entry.limit}`,
    );
  }
  if (end === entry.limit) return;
  // A byte that is neither the entry's nor its descriptor's: one of the two places is wrong.
  cursor.seek(end);
  const between = await cursor.take(Math.min(entry.limit - end, WIDE_DESCRIPTOR_BYTES + 1), 'a data descriptor');
  if (!header.described || !isDescriptor(between, entry)) {
    cursor.fail(`${at} ends at byte ${end}, and what follows it begins at ${entry.limit}`);
  }
  cursor.seek(start);
}

const WIDE_DESCRIPTOR_BYTES = 24;

/** A checksum and two sizes, of 32 or 64 bits, with a mark before them or without. */
function isDescriptor(bytes: Uint8Array<ArrayBuffer>, { crc, compressedSize, size }: ZipEntry): boolean {
  const view = viewOf(bytes);
  const marked = bytes.length === 16 || bytes.length === 24;
  if (!marked && bytes.length !== 12 && bytes.length !== 20) return false;
  const at = marked ? 4 : 0;
  if (marked && view.getUint32(0, true) !== DATA_DESCRIPTOR) return false;
  const wide = bytes.length - at === 20;
  const sizeAt = (place: number): number =>
    wide ? Number(view.getBigUint64(place, true)) : view.getUint32(place, true);
  return view.getUint32(at, true) === crc && sizeAt(at + 4) === compressedSize && sizeAt(at + (wide ? 12 : 8)) === size;
}

/** Reads the header at the cursor; undefined, and nothing read, if there is none. */
export async function readLocalHeader(cursor: ByteCursor): Promise<LocalHeader | undefined> {
  const offset = cursor.position;
  const fail: Fail = (what) => cursor.fail(what);
  const fixed = await cursor.peek(LOCAL_BYTES);
  if (fixed.length < 4 || viewOf(fixed).getUint32(0, true) !== LOCAL_HEADER) return undefined;
  if (fixed.length < LOCAL_BYTES) fail(`ends at byte ${offset + fixed.length}, within an entry's header`);
  const view = viewOf(fixed);
  const nameLength = view.getUint16(26, true);
  const length = LOCAL_BYTES + nameLength + view.getUint16(28, true);
  const header = await cursor.take(length, "an entry's header");
  const name = decodeName(header.subarray(LOCAL_BYTES, LOCAL_BYTES + nameLength));
  const entry = `entry ${quoteName(name)}`;
  const all = viewOf(header);
  const flags = all.getUint16(6, true);
  checkFlags(flags, entry, fail);
  const raw = [all.getUint32(22, true), all.getUint32(18, true)];
  const [, size] = widen64(raw, all, LOCAL_BYTES + nameLength, length, entry, fail);
  const described = (flags & SIZES_FOLLOW) !== 0;
  const follows = described && (size === 0 || size === 0xffff_ffff);
  return {
    name,
    method: all.getUint16(8, true),
    offset,
    size: follows ? undefined : size,
    crc: described ? undefined : all.getUint32(14, true),
    described,
  };
}

/**
 * Reads the checksum and sizes that follow the data of an entry, if its header did not have them.
 * @returns the checksum
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` if they are not there
 */
export async function readDescriptor(cursor: ByteCursor, header: LocalHeader, dataSize: number): Promise<number> {
  const bytes = await cursor.peek(28);
  const length = header.described ? descriptorLength(bytes, dataSize) : 0;
  if (length === 0) {
    if (header.size !== undefined && header.crc !== undefined) return header.crc;
    cursor.fail(`entry ${quoteName(header.name)} does not end at byte ${cursor.position}, after ${dataSize} bytes`);
  }
  const crc = viewOf(bytes).getUint32(4, true);
  await cursor.skip(length);
  return crc;
}

/** Bytes of the data descriptor at the start of `bytes`, 0 if it is none for data of this size. */
function descriptorLength(bytes: Uint8Array<ArrayBuffer>, dataSize: number): number {
  const view = viewOf(bytes);
  const isHeader = (at: number): boolean =>
    bytes.length >= at + 4 && [LOCAL_HEADER, CENTRAL_HEADER].includes(view.getUint32(at, true));
  if (!(bytes.length >= 16) || view.getUint32(0, true) !== DATA_DESCRIPTOR) return 0;
  if (view.getUint32(8, true) === dataSize && view.getUint32(12, true) === dataSize && isHeader(16)) return 16;
  const wide = BigInt(dataSize);
  const is64 = bytes.length >= 24 && view.getBigUint64(8, true) === wide && view.getBigUint64(16, true) === wide;
  return is64 && isHeader(24) ? 24 : 0;
}

/**
 * Passes over a small entry whose size follows it, of a stream.
 * @returns its data
 */
export async function takeUnsized(cursor: ByteCursor, header: LocalHeader, most: number): Promise<Uint8Array> {
  const bytes = await cursor.peek(most + 28);
  for (let size = 0; size <= most && size + 16 <= bytes.length; size++) {
    if (descriptorLength(bytes.subarray(size, size + 28), size) > 0) return cursor.take(size, 'an entry');
  }
  return cursor.fail(`entry ${quoteName(header.name)} at byte ${header.offset} has no end within ${most} bytes`);
}

function viewOf(bytes: Uint8Array<ArrayBuffer>): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
