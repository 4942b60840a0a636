import { messageOf, VGGNetError } from '../errors.js';
import { type ImageHeader, nameOf } from './header.js';
import { IMAGE_LIMITS } from './limits.js';
import type { RawImage } from './raw-image.js';
import { inSlices, STEP, type Steps } from './steps.js';

/*
 * Decoding where there is no canvas: Node, Deno and Bun, by the optional package `sharp`.
 */

export type Sharp = typeof import('sharp').default;

/**
 * Loads sharp.
 * @param load stands in for the import
 * @throws VGGNetError `MISSING_PEER` if it is not installed, or cannot run here
 */
export async function loadSharp(load: () => Promise<{ default: Sharp }> = importSharp): Promise<Sharp> {
  try {
    return (await load()).default;
  } catch (error) {
    const { code } = error as { code?: unknown };
    // Edge workers give no code.
    const isMissing = code === 'ERR_MODULE_NOT_FOUND' || /^No such module/.test(messageOf(error));
    const why = isMissing ? 'run `npm install sharp`' : `it is there and does not load: ${messageOf(error)}`;
    throw new VGGNetError(
      'MISSING_PEER',
      `Reading a GIF here needs the package sharp; ${why}. Or pass decoded pixels as { data, width, height, channels }`,
      { cause: error },
    );
  }
}

/** The name is a parameter, so that bundlers do not see it: a bundle for the web builds without sharp. */
function importSharp(name = 'sharp'): Promise<{ default: Sharp }> {
  return import(/* webpackIgnore: true */ /* @vite-ignore */ name);
}

/**
 * Decodes a whole file to 8-bit grey or RGB, turned by its EXIF orientation. Alpha is dropped, with the color under it
 * kept. Color profiles are ignored, as torchvision does; 16-bit values are scaled to 8 bits and rounded; CMYK becomes
 * RGB as in Pillow, `(255 − C)(255 − K) / 255`. Only the last is done on this thread, in slices.
 * @throws VGGNetError `INVALID_IMAGE` if the data is broken or ends early
 */
export async function decodeWithSharp(
  sharp: Sharp,
  file: Uint8Array<ArrayBuffer>,
  header: ImageHeader,
): Promise<RawImage> {
  const isCmyk = header.components === 4;
  try {
    const image = sharp(header.format === 'png' ? withoutTexts(file) : file, {
      // Broken and truncated data fail; what libjpeg only warns of does not, as in Pillow.
      failOn: 'error',
      limitInputPixels: IMAGE_LIMITS.pixels,
      ignoreIcc: true,
      autoOrient: true,
    });
    if (isCmyk) image.pipelineColourspace('cmyk').toColourspace('cmyk');
    // `v / 257`, so that 65535 becomes 255; the half makes of what cuts off what rounds.
    else if (header.bitDepth > 8)
      image
        .removeAlpha()
        .linear(1 / 257, 0.5)
        .toColourspace('rgb16');
    else image.removeAlpha().toColourspace('srgb');
    const { data, info } = await image.raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true });
    const { width, height } = info;
    if (isCmyk) return { data: await inSlices(cmykToRGB(data)), width, height, channels: 3 };
    return { data, width, height, channels: info.channels as 1 | 2 | 3 | 4 };
  } catch (error) {
    const why = messageOf(error).trim();
    throw new VGGNetError('INVALID_IMAGE', `${nameOf(header)} could not be decoded: ${why}`, { cause: error });
  }
}

/** Bytes that sharp takes at its peak, its result included: of libvips 8.18, measured for each format. */
export function sharpPeak(header: ImageHeader, file: Uint8Array, orientation: number): number {
  const { format, components, density, isProgressive, bitDepth } = header;
  // What a PNG can have at most: its values with alpha.
  const stored = format === 'jpeg' ? Math.max(3, components) : bitDepth > 8 ? 8 : 4;
  let perPixel = components === 4 ? 4 : 3;
  if (format === 'jpeg' && isProgressive) perPixel += 2 * density;
  if (format === 'png' && isProgressive) perPixel += stored;
  if (format === 'gif') perPixel += 5;
  if (format === 'webp') perPixel += header.hasAlpha ? 8 : 7;
  // To turn a picture, libvips keeps it whole; mirroring goes row by row.
  if (orientation > 2) perPixel += stored;
  // A PNG may be copied without its texts.
  const copy = format === 'png' ? file.length : 0;
  return header.width * header.height * perPixel + copy + SHARP_BUFFERS;
}

/** Rows in passing and the decoder's tables. */
const SHARP_BUFFERS = 4 * 2 ** 20;

/**
 * A PNG without the chunks that say nothing of its pixels. Texts and profiles are deflated, and libpng inflates each to
 * up to 8 MB: 1.5 MB of them took gigabytes and a minute.
 */
function withoutTexts(file: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const parts: Uint8Array[] = [file.subarray(0, 8)];
  let size = 8;
  for (let at = 8; at < file.length; ) {
    const end = at + 12 + view.getUint32(at);
    const type = view.getUint32(at + 4);
    if (PIXEL_CHUNKS.has(type)) {
      parts.push(file.subarray(at, end));
      size += end - at;
    }
    if (type === IEND) break;
    at = end;
  }
  if (size === file.length) return file;
  const shorter = new Uint8Array(size);
  let filled = 0;
  for (const part of parts) {
    shorter.set(part, filled);
    filled += part.length;
  }
  return shorter;
}

const IEND = nameOfChunk('IEND');
const PIXEL_CHUNKS: ReadonlySet<number> = new Set(['IHDR', 'PLTE', 'tRNS', 'eXIf', 'IDAT', 'IEND'].map(nameOfChunk));

function nameOfChunk(type: string): number {
  return [...type].reduce((name, letter) => name * 256 + letter.charCodeAt(0), 0);
}

/** In place: pixels become shorter. */
function* cmykToRGB(data: Uint8Array): Steps<Uint8Array> {
  let to = 0;
  for (let from = 0; from < data.length; from += 4) {
    const light = 255 - (data[from + 3] as number);
    for (let c = 0; c < 3; c++) {
      // Ink takes its part of the light: rounded first, then taken off, as Pillow does.
      data[to++] = light - Math.round(((data[from + c] as number) * light) / 255);
    }
    if (from % STEP === 0) yield;
  }
  return data.subarray(0, to);
}
