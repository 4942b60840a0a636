import { VGGNetError } from '../errors.js';
import { checkImageSize } from './limits.js';
import { STEP, type Steps } from './steps.js';

/** 8-bit pixels, row by row, the channels of a pixel side by side. A browser's ImageData is one. */
export interface RawImage {
  /** `width * height * channels` values. */
  readonly data: Uint8Array | Uint8ClampedArray;
  readonly width: number;
  readonly height: number;
  /** 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA. Default 4, as in ImageData. */
  readonly channels?: 1 | 2 | 3 | 4 | undefined;
}

/** Pixels with their channels stated: 1 is grey, 3 is RGB. */
export interface PlainImage extends RawImage {
  readonly channels: 1 | 3;
}

/**
 * Checks pixels that a caller hands in.
 * @throws VGGNetError `INVALID_IMAGE` if the data is no 8-bit array, is detached or does not fit its size;
 * `IMAGE_TOO_LARGE` over the limits
 */
export function checkRawImage(image: RawImage): void {
  const { data, width, height, channels = 4 } = image;
  if (!(data instanceof Uint8Array || data instanceof Uint8ClampedArray)) {
    const got = data === null || typeof data !== 'object' ? String(data) : (data as object).constructor?.name;
    throw new VGGNetError('INVALID_IMAGE', `Pixels must be a Uint8Array or Uint8ClampedArray, got ${got}`);
  }
  if (![1, 2, 3, 4].includes(channels)) {
    throw new VGGNetError('INVALID_IMAGE', `Pixels have 1, 2, 3 or 4 channels, got ${String(channels)}`);
  }
  checkImageSize('An image', width, height);
  const expected = width * height * channels;
  if (data.length !== expected) {
    const detached = data.buffer.byteLength === 0 ? ' (the buffer is detached or empty)' : '';
    const stated = image.channels === undefined ? ' (4 channels, unless `channels` says otherwise)' : '';
    throw new VGGNetError(
      'INVALID_IMAGE',
      `${width}×${height} pixels of ${channels} channels need ${expected} values${stated}, got ${data.length}${detached}`,
    );
  }
}

type Pixels = RawImage['data'];

/**
 * RGB pixels, as Pillow's `convert('RGB')` makes them: grey is repeated, and alpha is dropped, with the color
 * under it kept as it is stored. An image that is RGB already comes back without a copy.
 */
export function* toRGB(image: RawImage): Steps<PlainImage> {
  const { data, width, height, channels = 4 } = image;
  if (channels === 3) return { data, width, height, channels };
  const rgb = new Uint8Array(width * height * 3);
  for (let first = 0; first < width * height; first += STEP) {
    const last = Math.min(width * height, first + STEP);
    writeRGB(data.subarray(first * channels, last * channels), channels, rgb.subarray(first * 3, last * 3));
    yield;
  }
  return { data: rgb, width, height, channels: 3 };
}

/**
 * Reads an image row by row as grey or RGB, so that it is never converted as a whole.
 * @returns the pixels of row y, which are good until the next call
 */
export function rowReader(image: RawImage, to: 1 | 3): (y: number) => Pixels {
  const { data, width, channels = 4 } = image;
  const row = (y: number): Pixels => data.subarray(y * width * channels, (y + 1) * width * channels);
  if (channels === to) return row;
  const converted = new Uint8Array(width * to);
  const write = to === 1 ? writeGrey : writeRGB;
  return (y) => {
    write(row(y), channels, converted);
    return converted;
  };
}

function writeRGB(data: Pixels, channels: number, rgb: Uint8Array): void {
  // Grey takes its one value three times: steps of 0 between the channels.
  const step = channels === 4 ? 1 : 0;
  for (let from = 0, to = 0; to < rgb.length; from += channels, to += 3) {
    rgb[to] = data[from] as number;
    rgb[to + 1] = data[from + step] as number;
    rgb[to + 2] = data[from + 2 * step] as number;
  }
}

/**
 * As Pillow's `convert('L')` does: ITU-R BT.601 luma, `(19595 R + 38470 G + 7471 B + 2^15) / 2^16` rounded down. Alpha
 * is dropped.
 */
function writeGrey(data: Pixels, channels: number, grey: Uint8Array): void {
  const step = channels >= 3 ? 1 : 0;
  for (let from = 0, to = 0; to < grey.length; from += channels, to++) {
    const r = data[from] as number;
    const g = data[from + step] as number;
    const b = data[from + 2 * step] as number;
    grey[to] = (r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16;
  }
}
