import { deflateRawSync } from 'node:zlib';
import { portableCrc32 } from '../../src/weights/bytes/crc32.js';

/* Zip archives, right or wrong in any field. */

export interface ZipPart {
  readonly name: string;
  readonly data: Uint8Array | string;
  readonly deflate?: boolean;
  /** Where the sizes are: in the header, behind the data in 32 or 64 bits, or in the header's zip64 field. */
  readonly sizes?: 'header' | 'behind' | 'behind64' | 'zip64';
  /** Pads the header so that the data starts at a multiple of this, as PyTorch does. */
  readonly align?: number;
  /** What the directory, the header or both say instead of the truth. */
  readonly lie?: Partial<Fields>;
  readonly localLie?: Partial<Fields>;
}

export interface Fields {
  name: string;
  method: number;
  flags: number;
  crc: number;
  size: number;
  compressedSize: number;
  headerOffset: number;
}

export interface ZipOptions {
  readonly comment?: string;
  /** A zip64 end record. */
  readonly zip64?: boolean;
  readonly endLie?: { count?: number; size?: number; offset?: number };
  /** Bytes between the entries and the directory. */
  readonly gap?: number;
}

export function bytesOfText(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

export function concat(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Little-endian fields: [bytes, value]. */
function pack(...fields: readonly (readonly [2 | 4 | 8, number])[]): Uint8Array {
  const out = new DataView(new ArrayBuffer(fields.reduce((sum, [width]) => sum + width, 0)));
  let at = 0;
  for (const [width, value] of fields) {
    if (width === 2) out.setUint16(at, value, true);
    else if (width === 4) out.setUint32(at, value, true);
    else out.setBigUint64(at, BigInt(value), true);
    at += width;
  }
  return new Uint8Array(out.buffer);
}

const MAX = 0xffff_ffff;

export function makeZip(entries: readonly ZipPart[], options: ZipOptions = {}): Uint8Array<ArrayBuffer> {
  const body: Uint8Array[] = [];
  const central: Uint8Array[] = [];
  let at = 0;
  for (const entry of entries) {
    const data = typeof entry.data === 'string' ? bytesOfText(entry.data) : entry.data;
    const packed = entry.deflate ? deflateRawSync(data) : data;
    const behind = entry.sizes === 'behind' || entry.sizes === 'behind64';
    const truth: Fields = {
      name: entry.name,
      method: entry.deflate ? 8 : 0,
      flags: behind ? 0x808 : 0,
      crc: portableCrc32(data),
      size: data.length,
      compressedSize: packed.length,
      headerOffset: at,
    };
    const local = { ...truth, ...entry.lie, ...entry.localLie };
    const listed = { ...truth, ...entry.lie };
    const zip64 = entry.sizes === 'zip64';
    const wide = zip64 ? pack([2, 1], [2, 16], [8, local.size], [8, local.compressedSize]) : new Uint8Array(0);
    const name = bytesOfText(local.name);
    const headerEnd = at + 30 + name.length + wide.length;
    const padding = entry.align ? makePadding(headerEnd, entry.align) : new Uint8Array(0);
    const shown = (value: number): number => (behind ? 0 : zip64 ? MAX : value);
    const parts = [
      pack([4, 0x04034b50], [2, 45], [2, local.flags], [2, local.method], [4, 0], [4, behind ? 0 : local.crc]),
      pack(
        [4, shown(local.compressedSize)],
        [4, shown(local.size)],
        [2, name.length],
        [2, wide.length + padding.length],
      ),
      name,
      wide,
      padding,
      packed,
    ];
    const width = entry.sizes === 'behind64' ? 8 : 4;
    if (behind) parts.push(pack([4, 0x08074b50], [4, truth.crc], [width, truth.compressedSize], [width, truth.size]));
    body.push(...parts);
    at += parts.reduce((sum, part) => sum + part.length, 0);
    central.push(...centralHeader(listed, zip64));
  }
  const gap = new Uint8Array(options.gap ?? 0);
  return concat([...body, gap, ...central, ...endOf(entries.length, at + gap.length, concat(central).length, options)]);
}

function makePadding(headerEnd: number, align: number): Uint8Array {
  const length = 4 + ((align - ((headerEnd + 4) % align)) % align);
  const out = new Uint8Array(length).fill(0x5a);
  out.set(pack([2, 0x4246], [2, length - 4]));
  return out;
}

function centralHeader(entry: Fields, zip64: boolean): Uint8Array[] {
  const name = bytesOfText(entry.name);
  const wide = zip64
    ? pack([2, 1], [2, 24], [8, entry.size], [8, entry.compressedSize], [8, entry.headerOffset])
    : new Uint8Array(0);
  const shown = (value: number): number => (zip64 ? MAX : value);
  return [
    pack([4, 0x02014b50], [2, 45], [2, 45], [2, entry.flags], [2, entry.method], [4, 0], [4, entry.crc]),
    pack([4, shown(entry.compressedSize)], [4, shown(entry.size)], [2, name.length], [2, wide.length], [2, 0], [2, 0]),
    pack([2, 0], [4, 0], [4, shown(entry.headerOffset)]),
    name,
    wide,
  ];
}

function endOf(
  entries: number,
  start: number,
  length: number,
  { comment = '', zip64, endLie }: ZipOptions,
): Uint8Array[] {
  const { count = entries, size = length, offset = start } = endLie ?? {};
  const text = bytesOfText(comment);
  const small = zip64 ? { count: 0xffff, size: MAX, offset: MAX } : { count, size, offset };
  const end = pack(
    [4, 0x06054b50],
    [2, 0],
    [2, 0],
    [2, small.count],
    [2, small.count],
    [4, small.size],
    [4, small.offset],
    [2, text.length],
  );
  if (!zip64) return [end, text];
  return [
    pack([4, 0x06064b50], [8, 44], [2, 45], [2, 45], [4, 0], [4, 0], [8, count], [8, count], [8, size], [8, offset]),
    pack([4, 0x07064b50], [4, 0], [8, start + length], [4, 1]),
    end,
    text,
  ];
}
