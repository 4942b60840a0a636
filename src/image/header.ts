import { VGGNetError } from '../errors.js';
import type { ExifPlace } from './exif.js';
import { finish, type Steps } from './steps.js';

/** What a file says of itself before it is decoded. */
export interface ImageHeader {
  readonly format: 'jpeg' | 'png' | 'gif' | 'webp';
  /** As stored, before an EXIF orientation turns it. */
  readonly width: number;
  readonly height: number;
  /** More than 1 in an animation. */
  readonly frames: number;
  /** Color components of a JPEG (4 is CMYK); 0 in other formats. */
  readonly components: number;
  /** JPEG: stored values a pixel, fewer than `components` where chroma is subsampled; 0 in other formats. */
  readonly density: number;
  /** Whether the rows come in several passes, so that a decoder keeps the whole picture: progressive, interlaced. */
  readonly isProgressive: boolean;
  /** WebP: whether pixels have alpha; false in other formats. */
  readonly hasAlpha: boolean;
  /** Bits of a stored value. */
  readonly bitDepth: number;
  /** GIF: where the byte is whose lowest bit makes one colour of the first frame transparent. */
  readonly transparencyAt?: number | undefined;
  readonly exif?: ExifPlace | undefined;
}

type Fields = Partial<Omit<ImageHeader, 'format'>>;

/**
 * Walks a file from its first byte to its end mark without decoding it. So a file that is cut off, animated or
 * enormous is known as such in every runtime, whatever its decoder makes of it.
 *
 * Sources: ITU-T T.81 annex B (JPEG), the PNG specification's third edition, GIF89a, RFC 9649 (WebP).
 * @throws VGGNetError `INVALID_IMAGE` if the bytes are in none of the four formats, break theirs, or end early
 */
export function readImageHeader(bytes: Uint8Array): ImageHeader {
  return finish(imageHeaderSteps(bytes));
}

/** `readImageHeader` in steps. */
export function* imageHeaderSteps(bytes: Uint8Array): Steps<ImageHeader> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const format = formatOf(bytes);
  if (!format) {
    throw new VGGNetError('INVALID_IMAGE', `Expected a JPEG, PNG, WebP or GIF image, got ${describeBytes(bytes)}`);
  }
  try {
    const fields = yield* WALKERS[format](bytes, view);
    if (fields.width === undefined) throw new VGGNetError('INVALID_IMAGE', `${NAMES[format]} image without a size`);
    return { format, ...STANDARD, ...fields };
  } catch (error) {
    // A DataView throws RangeError where the walk runs over the end.
    if (!(error instanceof RangeError)) throw error;
    throw new VGGNetError(
      'INVALID_IMAGE',
      `${NAMES[format]} image is truncated: it ends after ${bytes.length} bytes without its end mark`,
      { cause: error },
    );
  }
}

const STANDARD = {
  width: 0,
  height: 0,
  frames: 1,
  components: 0,
  density: 0,
  isProgressive: false,
  hasAlpha: false,
  bitDepth: 8,
};

/** Segments, chunks or blocks of a file. Large photos have some thousands. */
const MAX_PARTS = 2 ** 16;

/** Passes of a JPEG's data. Encoders write some ten, and each goes over the whole picture. */
const MAX_SCANS = 100;

/** Looks at a byte between two yields. */
const LOOKS = 2 ** 14;

function checkCount(count: number, max: number, what: string): void {
  if (count > max) throw new VGGNetError('INVALID_IMAGE', `Expected at most ${max} ${what}, got more`);
}

const NAMES = { jpeg: 'A JPEG', png: 'A PNG', gif: 'A GIF', webp: 'A WebP' } as const;
const WALKERS = { jpeg: walkJpeg, png: walkPng, gif: walkGif, webp: walkWebp } as const;

/** For messages: 'A PNG image'. */
export function nameOf(header: ImageHeader): string {
  return `${NAMES[header.format]} image`;
}

function startsWith(bytes: Uint8Array, text: string, at = 0): boolean {
  for (let i = 0; i < text.length; i++) if (bytes[at + i] !== text.charCodeAt(i)) return false;
  return true;
}

function formatOf(bytes: Uint8Array): ImageHeader['format'] | undefined {
  if (startsWith(bytes, '\xff\xd8\xff')) return 'jpeg';
  if (startsWith(bytes, '\x89PNG\r\n\x1a\n')) return 'png';
  if (startsWith(bytes, 'GIF87a') || startsWith(bytes, 'GIF89a')) return 'gif';
  if (startsWith(bytes, 'RIFF') && startsWith(bytes, 'WEBP', 8)) return 'webp';
  return undefined;
}

/** Names what came instead of an image; a web page where an image was meant is the most usual. */
function describeBytes(bytes: Uint8Array): string {
  if (bytes.length === 0) return 'nothing (0 bytes)';
  const known: readonly [string, number, string][] = [
    ['BM', 0, 'a BMP file'],
    ['II*\0', 0, 'a TIFF file'],
    ['MM\0*', 0, 'a TIFF file'],
    ['ftypavi', 4, 'an AVIF file'],
    ['ftyphe', 4, 'a HEIC file'],
    ['ftypmif1', 4, 'a HEIF file'],
    ['%PDF', 0, 'a PDF file'],
    ['<svg', 0, 'an SVG file'],
    ['<', 0, 'a web page or XML'],
  ];
  const found = known.find(([text, at]) => startsWith(bytes, text, at));
  const start = [...bytes.subarray(0, 8)].map((byte) => byte.toString(16).padStart(2, '0')).join(' ');
  return `${found ? found[2] : 'none of these'} (${bytes.length} bytes, beginning ${start})`;
}

/** Throws the RangeError of a walk that runs over the end, unless `end` lies within the file. */
function within(end: number, view: DataView): number {
  if (end > view.byteLength) throw new RangeError(`${end} is after the end`);
  return end;
}

/** Markers and their segments, and the coded data between them, up to the end-of-image marker. */
function* walkJpeg(bytes: Uint8Array, view: DataView): Steps<Fields> {
  let fields: Fields = {};
  let at = 2;
  let scans = 0;
  for (let looks = 0, segments = 0; ; looks++) {
    if (looks % LOOKS === 0) yield;
    // Between segments this skips bytes that belong to nothing, as decoders do; after a scan's header, its data.
    at = bytes.indexOf(0xff, at);
    if (at < 0) throw new RangeError('no marker');
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at++;
      continue;
    }
    at += 2;
    if (marker === 0xd9) return { ...fields, isProgressive: fields.isProgressive || scans > 1 };
    // A stuffed 0xFF, a restart or a marker of no length.
    if (marker <= 0x01 || (marker >= 0xd0 && marker <= 0xd8)) continue;
    checkCount(++segments, MAX_PARTS, 'segments in a JPEG image');
    const end = within(at + Math.max(2, view.getUint16(at)), view);
    if (marker === 0xda) checkCount(++scans, MAX_SCANS, 'scans in a JPEG image');
    const isFrame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
    if (isFrame && fields.width === undefined) fields = { ...fields, ...jpegFrame(view, at, marker) };
    // APP1 holds EXIF, or something else under another name.
    if (marker === 0xe1 && !fields.exif && startsWith(bytes, 'Exif\0', at + 2)) {
      fields = { ...fields, exif: { at: at + 2, start: at + 8, end } };
    }
    at = end;
  }
}

function jpegFrame(view: DataView, at: number, marker: number): Fields {
  const components = view.getUint8(at + 7);
  const samplings = Array.from({ length: components }, (_, i) => view.getUint8(at + 9 + 3 * i));
  const most = (of: (sampling: number) => number): number => Math.max(1, ...samplings.map(of));
  const stored = samplings.reduce((sum, sampling) => sum + (sampling >> 4) * (sampling & 15), 0);
  return {
    bitDepth: view.getUint8(at + 2),
    height: view.getUint16(at + 3),
    width: view.getUint16(at + 5),
    components,
    density: stored / (most((sampling) => sampling >> 4) * most((sampling) => sampling & 15)),
    isProgressive: (marker & 3) === 2,
  };
}

/** Chunks of length, type, data and checksum, up to IEND. */
function* walkPng(bytes: Uint8Array, view: DataView): Steps<Fields> {
  if (!startsWith(bytes, 'IHDR', 12)) {
    if (bytes.length < 16) throw new RangeError('no IHDR');
    throw new VGGNetError('INVALID_IMAGE', 'A PNG image must begin with an IHDR chunk');
  }
  const fields: Fields = {
    width: view.getUint32(16),
    height: view.getUint32(20),
    bitDepth: view.getUint8(24),
    isProgressive: view.getUint8(28) !== 0,
  };
  let frames = 1;
  let exif: ExifPlace | undefined;
  for (let at = 8, chunks = 0; ; ) {
    checkCount(++chunks, MAX_PARTS, 'chunks in a PNG image');
    if (chunks % 1024 === 0) yield;
    const end = within(at + 12 + view.getUint32(at), view);
    if (startsWith(bytes, 'IEND', at + 4)) return { ...fields, frames, exif };
    // An animated PNG; decoders that do not know of it show its first frame.
    if (startsWith(bytes, 'acTL', at + 4)) frames = Math.max(1, view.getUint32(at + 8));
    if (startsWith(bytes, 'eXIf', at + 4)) exif ??= { at, start: at + 8, end: end - 4 };
    at = end;
  }
}

/** Blocks up to the trailer. */
function* walkGif(_bytes: Uint8Array, view: DataView): Steps<Fields> {
  let width = view.getUint16(6, true);
  let height = view.getUint16(8, true);
  let frames = 0;
  let transparencyAt: number | undefined;
  let looks = 0;
  const colorTable = (flags: number): number => (flags & 0x80 ? 3 << ((flags & 7) + 1) : 0);
  function* afterSubBlocks(start: number): Steps<number> {
    let at = start;
    for (let size = view.getUint8(at); size > 0; size = view.getUint8(at)) {
      at += 1 + size;
      if (++looks % LOOKS === 0) yield;
    }
    return at + 1;
  }
  let at = 13 + colorTable(view.getUint8(10));
  for (let blocks = 1; ; blocks++) {
    checkCount(blocks, MAX_PARTS, 'blocks in a GIF image');
    const block = view.getUint8(at++);
    if (block === 0x3b) {
      // Without a frame there is nothing to show.
      return frames === 0 ? {} : { width, height, frames, transparencyAt };
    }
    if (block === 0x21) {
      const isControl = view.getUint8(at) === 0xf9 && view.getUint8(at + 1) >= 4;
      if (isControl && frames === 0) transparencyAt = at + 2;
      at = yield* afterSubBlocks(at + 1);
    } else if (block === 0x2c) {
      frames++;
      // A decoder widens the canvas to a frame that reaches over it.
      if (width > 0 && height > 0) {
        width = Math.max(width, view.getUint16(at, true) + view.getUint16(at + 4, true));
        height = Math.max(height, view.getUint16(at + 2, true) + view.getUint16(at + 6, true));
      }
      at = yield* afterSubBlocks(at + 10 + colorTable(view.getUint8(at + 8)));
    }
  }
}

/** RIFF chunks: a canvas (VP8X) if there is one, and the frames, lossy (VP8) or lossless (VP8L). */
function* walkWebp(bytes: Uint8Array, view: DataView): Steps<Fields> {
  const end = within(8 + view.getUint32(4, true), view);
  let width = 0;
  let height = 0;
  let images = 0;
  let animated = 0;
  let hasAlpha = false;
  let exif: ExifPlace | undefined;
  const grow = (w: number, h: number): void => {
    width = Math.max(width, w);
    height = Math.max(height, h);
  };
  for (let at = 12, chunks = 1; at + 8 <= end; chunks++) {
    checkCount(chunks, MAX_PARTS, 'chunks in a WebP image');
    if (chunks % 1024 === 0) yield;
    const size = view.getUint32(at + 4, true);
    const data = at + 8;
    within(data + size, view);
    if (startsWith(bytes, 'VP8X', at)) {
      grow(1 + uint24(view, data + 4), 1 + uint24(view, data + 7));
      hasAlpha ||= (view.getUint8(data) & 0x10) !== 0;
    } else if (startsWith(bytes, 'VP8L', at)) {
      images++;
      const sides = view.getUint32(data + 1, true);
      grow(1 + (sides & 0x3fff), 1 + ((sides >> 14) & 0x3fff));
      hasAlpha ||= (sides & 0x10000000) !== 0;
    } else if (startsWith(bytes, 'VP8 ', at)) {
      images++;
      grow(view.getUint16(data + 6, true) & 0x3fff, view.getUint16(data + 8, true) & 0x3fff);
    } else if (startsWith(bytes, 'ANMF', at)) {
      animated++;
    } else if (startsWith(bytes, 'EXIF', at)) {
      exif ??= { at, start: data, end: data + size };
    }
    at = data + size + (size & 1);
  }
  return images + animated === 0 ? {} : { width, height, frames: Math.max(1, animated), hasAlpha, exif };
}

function uint24(view: DataView, at: number): number {
  return view.getUint16(at, true) | (view.getUint8(at + 2) << 16);
}
