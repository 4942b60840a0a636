import type { ImageHeader } from '../header.js';
import type { PlainImage } from '../raw-image.js';
import { inSlices, STEP, type Steps } from '../steps.js';

/*
 * PNG, by the platform's inflate. Rows are turned into RGB as they come, so that nothing but the result is in memory
 * as a whole. Source: the PNG specification's third edition, https://www.w3.org/TR/png-3/.
 */

interface Layout {
  readonly width: number;
  readonly height: number;
  readonly bitDepth: number;
  /** Values of a stored pixel. */
  readonly channels: number;
  /** The colors of a palette image, three bytes each. */
  readonly palette: Uint8Array | undefined;
  readonly isInterlaced: boolean;
}

/** Part of the pixels: those from (x, y) on, each dx-th of each dy-th row. */
interface Pass {
  readonly x: number;
  readonly y: number;
  readonly dx: number;
  readonly dy: number;
}

const WHOLE: readonly Pass[] = [{ x: 0, y: 0, dx: 1, dy: 1 }];

/** Section 8.1. */
const ADAM7: readonly Pass[] = [
  { x: 0, y: 0, dx: 8, dy: 8 },
  { x: 4, y: 0, dx: 8, dy: 8 },
  { x: 0, y: 4, dx: 4, dy: 8 },
  { x: 2, y: 0, dx: 4, dy: 4 },
  { x: 0, y: 2, dx: 2, dy: 4 },
  { x: 1, y: 0, dx: 2, dy: 2 },
  { x: 0, y: 1, dx: 1, dy: 2 },
];

/** Channels and bit depths of each color type: section 11.2.1. */
const COLOR_TYPES: Readonly<Record<number, { channels: number; depths: readonly number[] }>> = {
  0: { channels: 1, depths: [1, 2, 4, 8, 16] },
  2: { channels: 3, depths: [8, 16] },
  3: { channels: 1, depths: [1, 2, 4, 8] },
  4: { channels: 2, depths: [8, 16] },
  6: { channels: 4, depths: [8, 16] },
};

/**
 * Decodes a PNG to 8-bit RGB as it is stored: grey is repeated, palettes are looked up, alpha is dropped, and 16 bits
 * become 8 by `v / 257`, rounded.
 * @param header of this file, which `readImageHeader` has walked through
 * @throws Error with the reason if the data is broken
 */
export async function decodePng(file: Uint8Array<ArrayBuffer>, header: ImageHeader): Promise<PlainImage> {
  const { layout, data } = readChunks(file);
  const { width, height } = header;
  const rgb = new Uint8Array(width * height * 3);
  const rows = new Rows(layout, rgb);
  const reader = inflated(data).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      // More data than pixels is passed over, as libpng does.
      if (rows.isComplete) return { data: rgb, width, height, channels: 3 };
      await inSlices(rows.take(value));
    }
  } finally {
    void reader.cancel().catch(() => {});
  }
  if (!rows.isComplete) throw new Error('its data ends early');
  return { data: rgb, width, height, channels: 3 };
}

function inflated(parts: Uint8Array<ArrayBuffer>[]): ReadableStream<Uint8Array> {
  const left = parts.values();
  const source = new ReadableStream<Uint8Array<ArrayBuffer>>({
    pull(controller) {
      const { done, value } = left.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
  return source.pipeThrough(new DecompressionStream('deflate'));
}

function readChunks(file: Uint8Array<ArrayBuffer>): { layout: Layout; data: Uint8Array<ArrayBuffer>[] } {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const data: Uint8Array<ArrayBuffer>[] = [];
  let palette: Uint8Array | undefined;
  for (let at = 8; at < file.length; ) {
    const length = view.getUint32(at);
    const type = String.fromCharCode(...file.subarray(at + 4, at + 8));
    const content = file.subarray(at + 8, at + 8 + length);
    // The data itself has a checksum of its own, which inflating checks.
    if (type === 'IHDR' || type === 'PLTE')
      checkCrc(type, file.subarray(at + 4, at + 8 + length), view.getUint32(at + 8 + length));
    if (type === 'PLTE') palette = content;
    if (type === 'IDAT' && length > 0) data.push(content);
    if (type === 'IEND') break;
    at += 12 + length;
  }
  const [bitDepth = 0, colorType = 0, compression, filter, interlace = 0] = file.subarray(24, 29);
  const known = COLOR_TYPES[colorType];
  if (!known?.depths.includes(bitDepth)) throw new Error(`there is no color type ${colorType} of ${bitDepth} bits`);
  if (compression !== 0 || filter !== 0 || interlace > 1)
    throw new Error('its header names methods that there are not');
  if (colorType === 3 && !palette) throw new Error('it has no palette');
  const layout = {
    width: view.getUint32(16),
    height: view.getUint32(20),
    bitDepth,
    channels: known.channels,
    palette: colorType === 3 ? palette : undefined,
    isInterlaced: interlace === 1,
  };
  return { layout, data };
}

function checkCrc(type: string, bytes: Uint8Array, expected: number): void {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  if (~crc >>> 0 !== expected) throw new Error(`the checksum of its ${type} chunk is wrong`);
}

/** Puts rows together from the inflated data, undoes their filters and writes them to the result. */
class Rows {
  readonly #layout: Layout;
  readonly #rgb: Uint8Array;
  readonly #passes: IterableIterator<Pass>;
  /** Bytes from a value to the same value of the pixel left of it. */
  readonly #stride: number;
  #pass: Pass | undefined;
  /** Of the pass. */
  #columns = 0;
  #y = 0;
  /** The row's filter, then its bytes. */
  #row = new Uint8Array();
  #above = new Uint8Array();
  #filled = 0;

  constructor(layout: Layout, rgb: Uint8Array) {
    this.#layout = layout;
    this.#rgb = rgb;
    this.#passes = (layout.isInterlaced ? ADAM7 : WHOLE).values();
    this.#stride = Math.max(1, (layout.channels * layout.bitDepth) >> 3);
    this.#nextPass();
  }

  get isComplete(): boolean {
    return this.#pass === undefined;
  }

  *take(bytes: Uint8Array): Steps<void> {
    let work = 0;
    for (let at = 0; at < bytes.length && this.#pass; ) {
      const part = bytes.subarray(at, at + this.#row.length - this.#filled);
      this.#row.set(part, this.#filled);
      this.#filled += part.length;
      at += part.length;
      if (this.#filled < this.#row.length) return;
      this.#endRow(this.#pass);
      work += this.#row.length;
      if (work < STEP / 4) continue;
      work = 0;
      yield;
    }
  }

  #endRow(pass: Pass): void {
    unfilter(this.#row, this.#above, this.#stride);
    this.#write(pass);
    [this.#row, this.#above] = [this.#above, this.#row];
    this.#filled = 0;
    this.#y += pass.dy;
    if (this.#y >= this.#layout.height) this.#nextPass();
  }

  /** Goes on to the next pass that has pixels. */
  #nextPass(): void {
    const { width, height, channels, bitDepth } = this.#layout;
    do {
      this.#pass = this.#passes.next().value;
    } while (this.#pass && (this.#pass.x >= width || this.#pass.y >= height));
    if (!this.#pass) return;
    this.#columns = Math.ceil((width - this.#pass.x) / this.#pass.dx);
    this.#y = this.#pass.y;
    const length = 1 + Math.ceil((this.#columns * channels * bitDepth) / 8);
    this.#row = new Uint8Array(length);
    this.#above = new Uint8Array(length);
  }

  #write({ x, dx }: Pass): void {
    const { width, bitDepth, channels, palette } = this.#layout;
    const row = this.#row;
    const rgb = this.#rgb;
    const step = channels >= 3 ? 1 : 0;
    const read = bitDepth === 16 ? read16 : bitDepth === 8 ? read8 : undefined;
    let to = (this.#y * width + x) * 3;
    for (let column = 0; column < this.#columns; column++, to += 3 * dx) {
      if (palette) {
        const from = 3 * readBits(row, column, bitDepth);
        for (let c = 0; c < 3; c++) rgb[to + c] = palette[from + c] ?? 0;
      } else if (read) {
        const from = column * channels;
        rgb[to] = read(row, from);
        rgb[to + 1] = read(row, from + step);
        rgb[to + 2] = read(row, from + 2 * step);
      } else {
        rgb.fill((readBits(row, column, bitDepth) * 255) / (2 ** bitDepth - 1), to, to + 3);
      }
    }
  }
}

function read8(row: Uint8Array, index: number): number {
  return row[1 + index] as number;
}

/** `v / 257`, rounded. */
function read16(row: Uint8Array, index: number): number {
  const value = ((row[1 + 2 * index] as number) << 8) | (row[2 + 2 * index] as number);
  return (value * 255 + 32_895) >> 16;
}

/** A value of 1, 2, 4 or 8 bits; the first is in the highest bits. */
function readBits(row: Uint8Array, index: number, bits: number): number {
  const bit = index * bits;
  return ((row[1 + (bit >> 3)] as number) >> (8 - bits - (bit & 7))) & ((1 << bits) - 1);
}

/** Section 9. A row is its filter's number and its bytes; left of the first pixel and above the first row is 0. */
function unfilter(row: Uint8Array, above: Uint8Array, stride: number): void {
  const { length } = row;
  switch (row[0]) {
    case 0:
      return;
    case 1:
      for (let i = 1 + stride; i < length; i++) row[i] = (row[i] as number) + (row[i - stride] as number);
      return;
    case 2:
      for (let i = 1; i < length; i++) row[i] = (row[i] as number) + (above[i] as number);
      return;
    case 3:
      for (let i = 1; i < length; i++) {
        const left = i > stride ? (row[i - stride] as number) : 0;
        row[i] = (row[i] as number) + ((left + (above[i] as number)) >> 1);
      }
      return;
    case 4:
      for (let i = 1; i < length; i++) {
        const left = i > stride ? (row[i - stride] as number) : 0;
        const corner = i > stride ? (above[i - stride] as number) : 0;
        row[i] = (row[i] as number) + paeth(left, above[i] as number, corner);
      }
      return;
    default:
      throw new Error(`a row of it names filter ${row[0]}, and there are 0 to 4`);
  }
}

function paeth(left: number, above: number, corner: number): number {
  const estimate = left + above - corner;
  const toLeft = Math.abs(estimate - left);
  const toAbove = Math.abs(estimate - above);
  const toCorner = Math.abs(estimate - corner);
  if (toLeft <= toAbove && toLeft <= toCorner) return left;
  return toAbove <= toCorner ? above : corner;
}
