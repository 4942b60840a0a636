import { readFileSync } from 'node:fs';
import { inflateSync } from 'node:zlib';

/** What Pillow and torchvision made: see test/golden/make-images.py. */
interface Golden {
  files: Record<string, { width: number; height: number; pixels: string }>;
  resized: Record<string, Resized>;
  tensors: Record<'allBytes' | 'bytes' | 'imagenet' | 'caffe', string>;
  labels: string;
}

export interface Resized {
  source: { width: number; height: number; noise: number };
  mode: 'RGB' | 'L';
  resize: number | null;
  crop: number | null;
  width: number;
  height: number;
  pixels: string;
}

export const IMAGES: URL = new URL('../golden/images/', import.meta.url);

export const golden: Golden = JSON.parse(readFileSync(new URL('expected.json', IMAGES), 'utf8'));

export function imageBytes(name: string): Uint8Array {
  return new Uint8Array(readFileSync(new URL(name, IMAGES)));
}

export function unpack(text: string): Uint8Array {
  return new Uint8Array(inflateSync(Buffer.from(text, 'base64')));
}

export function unpackFloats(text: string): Float32Array {
  return new Float32Array(unpack(text).buffer);
}

/** Undoes `pack_pixels`. */
export function unpackPixels(text: string, channels: number): Uint8Array {
  const pixels = unpack(text);
  for (let i = channels; i < pixels.length; i++) {
    pixels[i] = (pixels[i] as number) + (pixels[i - channels] as number);
  }
  return pixels;
}

/** `pattern` of make-images.py: a triangle wave each way, other for each channel, plus noise from an integer hash. */
export function pattern(width: number, height: number, noise = 64): Uint8Array {
  const data = new Uint8Array(width * height * 3);
  const wave = (t: number, period: number): number => {
    const at = t % (2 * period);
    return Math.floor(((at < period ? at : 2 * period - at) * 90) / period);
  };
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++, i++) {
        let hash = Math.imul(i, 2654435761) >>> 0;
        hash = Math.imul(hash ^ (hash >>> 15), 2246822519) >>> 0;
        hash = (hash ^ (hash >>> 13)) >>> 0;
        data[i] = Math.min(255, wave(x + 11 * c, 37) + wave(y + 7 * c, 53) + (noise > 0 ? hash % noise : 0));
      }
    }
  }
  return data;
}

/** The greatest difference of two arrays, Infinity if their lengths differ or a value is NaN, and where it is. */
export function greatestDifference(
  got: ArrayLike<number>,
  expected: ArrayLike<number>,
): { difference: number; index: number } {
  if (got.length !== expected.length) return { difference: Infinity, index: Math.min(got.length, expected.length) };
  let worst = { difference: 0, index: -1 };
  for (let index = 0; index < got.length; index++) {
    const difference = Math.abs((got[index] as number) - (expected[index] as number));
    if (Number.isNaN(difference)) return { difference: Infinity, index };
    if (difference > worst.difference) worst = { difference, index };
  }
  return worst;
}

/** Of equal arrays. */
export const NONE: { difference: number; index: number } = { difference: 0, index: -1 };
