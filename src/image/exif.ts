import type { ImageHeader } from './header.js';
import type { PlainImage } from './raw-image.js';
import type { Steps } from './steps.js';

/*
 * EXIF's orientation, for decoders that heed it in some formats only, as browsers do: it is read here, hidden from
 * them, and applied here.
 */

/** Where a file keeps its EXIF data. */
export interface ExifPlace {
  /** First byte of what marks it as EXIF: a JPEG's 'Exif', a WebP's chunk name, a PNG's whole chunk. */
  readonly at: number;
  /** The data itself, which is a small TIFF file. */
  readonly start: number;
  readonly end: number;
}

const ORIENTATION = 0x0112;
const SHORT = 3;
const LONG = 4;

/**
 * The orientation from 1 to 8, and 1 where there is none that is valid.
 * Source: Exif 2.32, 4.6.2 (the TIFF structure) and 4.6.4 (the tag).
 */
export function readOrientation(bytes: Uint8Array, place: ExifPlace | undefined): number {
  if (!place) return 1;
  // Some writers put a JPEG's marker before the data in other formats too.
  const start = bytes[place.start] === 0x45 ? place.start + 6 : place.start;
  const view = new DataView(bytes.buffer, bytes.byteOffset + start, Math.max(0, place.end - start));
  try {
    const little = view.getUint16(0) === 0x4949;
    const directory = view.getUint32(4, little);
    const count = view.getUint16(directory, little);
    for (let i = 0; i < count; i++) {
      const entry = directory + 2 + 12 * i;
      if (view.getUint16(entry, little) !== ORIENTATION) continue;
      const type = view.getUint16(entry + 2, little);
      if (type !== SHORT && type !== LONG) return 1;
      const value = type === SHORT ? view.getUint16(entry + 8, little) : view.getUint32(entry + 8, little);
      return value >= 1 && value <= 8 ? value : 1;
    }
    return 1;
  } catch (error) {
    // EXIF data that ends early says nothing, and the picture is sound.
    if (error instanceof RangeError) return 1;
    throw error;
  }
}

/** The parts of the file without its EXIF data, as far as a decoder can see. */
export function hideExif(bytes: Uint8Array<ArrayBuffer>, header: ImageHeader): Uint8Array<ArrayBuffer>[] {
  if (!header.exif) return [bytes];
  const { at, end } = header.exif;
  // A PNG's chunk has a checksum: it is taken out whole, with those last four bytes.
  if (header.format === 'png') return [bytes.subarray(0, at), bytes.subarray(end + 4)];
  // A segment or chunk of an unknown name is passed over.
  return [bytes.subarray(0, at), Uint8Array.of(0x5f), bytes.subarray(at + 1)];
}

/** Turns and mirrors an image so that one stored under this orientation is upright. */
export function* applyOrientation(image: PlainImage, orientation: number): Steps<PlainImage> {
  if (orientation === 1) return image;
  const { data, width: w, height: h, channels } = image;
  const isTurned = orientation >= 5;
  const width = isTurned ? h : w;
  const height = isTurned ? w : h;
  // The stored pixel of the upright corner at the top left, and the steps to the pixel right of it and under it.
  const [origin, right, down] = (
    [
      [w - 1, -1, w],
      [w * h - 1, -1, -w],
      [w * (h - 1), 1, -w],
      [0, w, 1],
      [w * (h - 1), -w, 1],
      [w * h - 1, -w, -1],
      [w - 1, w, -1],
    ] as const
  )[orientation - 2] as readonly [number, number, number];
  const out = new Uint8Array(data.length);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const from = (origin + x * right + y * down) * channels;
      for (let c = 0; c < channels; c++) out[to++] = data[from + c] as number;
    }
    if (y % 64 === 0) yield;
  }
  return { data: out, width, height, channels };
}
