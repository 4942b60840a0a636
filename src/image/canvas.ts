import { messageOf, VGGNetError } from '../errors.js';
import { type ImageHeader, nameOf } from './header.js';
import { checkImageSize } from './limits.js';
import type { PlainImage } from './raw-image.js';
import { inSlices } from './steps.js';
import { AS_STORED, copyTile, TILE, tilesOf } from './tiles.js';

/*
 * Decoding by the platform, where it has createImageBitmap and OffscreenCanvas: pages and web workers.
 */

/** What a class of the web's makes; nothing where its types are not known, as in a program for Node or Deno. */
type Made<Name extends string> = typeof globalThis extends Record<Name, { prototype: infer T }> ? T : never;

/** A picture that a browser holds decoded. */
export type Drawable =
  | Made<'ImageBitmap'>
  | Made<'HTMLImageElement'>
  | Made<'HTMLCanvasElement'>
  | Made<'OffscreenCanvas'>
  | Made<'VideoFrame'>;

export function hasCanvas(): boolean {
  if (typeof createImageBitmap !== 'function' || typeof OffscreenCanvas !== 'function') return false;
  // Deno has both, and draws nothing.
  return new OffscreenCanvas(1, 1).getContext('2d') !== null;
}

/** The class of a name, where this runtime has it. */
function isA<Name extends keyof typeof globalThis>(value: unknown, name: Name): boolean {
  const type: unknown = globalThis[name];
  return typeof type === 'function' && value instanceof type;
}

export function isDrawable(input: unknown): input is Drawable {
  return (
    isA(input, 'ImageBitmap') ||
    isA(input, 'HTMLImageElement') ||
    isA(input, 'HTMLCanvasElement') ||
    isA(input, 'OffscreenCanvas') ||
    isA(input, 'VideoFrame')
  );
}

/**
 * Decodes a whole file to RGB, turned by its EXIF orientation, its colour profile ignored.
 * @throws VGGNetError `INVALID_IMAGE` if the data is broken; `BACKEND_UNAVAILABLE` as in `readDrawable`
 */
export async function decodeWithCanvas(bytes: Uint8Array<ArrayBuffer>, header: ImageHeader): Promise<PlainImage> {
  let bitmap: ImageBitmap;
  // Browsers differ in the formats whose orientation they heed: Chromium passes over WebP's.
  const exif = header.exif && (await import('./exif.js'));
  const orientation = exif?.readOrientation(bytes, header.exif) ?? 1;
  const blob = new Blob(exif?.hideExif(bytes, header) ?? [bytes], { type: `image/${header.format}` });
  try {
    bitmap = await createImageBitmap(blob, AS_STORED);
  } catch (error) {
    const why = messageOf(error);
    throw new VGGNetError('INVALID_IMAGE', `${nameOf(header)} could not be decoded: ${why}`, { cause: error });
  }
  try {
    const image = await readDrawable(bitmap);
    return exif ? await inSlices(exif.applyOrientation(image, orientation)) : image;
  } finally {
    bitmap.close();
  }
}

/**
 * The RGB pixels of a decoded picture, without its alpha.
 * @throws VGGNetError `INVALID_IMAGE` if it has no pixels (closed, not loaded, empty); `IMAGE_TOO_LARGE`;
 * `IO` if it came from another origin without leave; `BACKEND_UNAVAILABLE` if it has transparent pixels, whose
 * colours only WebGL 2 gives unharmed, and there is no WebGL 2
 */
export async function readDrawable(source: Drawable): Promise<PlainImage> {
  if (isA(source, 'HTMLImageElement')) await loaded(source as HTMLImageElement);
  const { width, height } = sizeOf(source);
  checkImageSize('A picture', width, height);
  const rgb = new Uint8Array(width * height * 3);
  try {
    if (!readOpaque(source, width, height, rgb)) {
      // On demand, as EXIF is: few pictures are transparent.
      const { readTransparent } = await import('./webgl.js');
      await readTransparent(source, width, height, rgb);
    }
  } catch (error) {
    if (error instanceof VGGNetError) throw error;
    const isForeign = error instanceof Error && error.name === 'SecurityError';
    const why = isForeign ? 'it is from another origin, loaded without CORS' : String(error);
    throw new VGGNetError(isForeign ? 'IO' : 'INVALID_IMAGE', `Could not read the pixels of a picture: ${why}`, {
      cause: error,
    });
  }
  return { data: rgb, width, height, channels: 3 };
}

export async function loaded(image: HTMLImageElement): Promise<void> {
  try {
    await image.decode();
  } catch (error) {
    throw new VGGNetError('INVALID_IMAGE', `The image element has no picture: '${image.currentSrc.slice(0, 200)}'`, {
      cause: error,
    });
  }
}

export function sizeOf(source: Drawable): { width: number; height: number } {
  if ('naturalWidth' in source) return { width: source.naturalWidth, height: source.naturalHeight };
  if ('displayWidth' in source) return { width: source.displayWidth, height: source.displayHeight };
  return source;
}

/** Reads by a 2D canvas; false as soon as a transparent pixel turns up in a source that may hold its colour. */
function readOpaque(source: Drawable, width: number, height: number, rgb: Uint8Array): boolean {
  const canvas = new OffscreenCanvas(Math.min(TILE, width), Math.min(TILE, height));
  const context = canvas.getContext('2d', { willReadFrequently: true });
  if (!context) throw new VGGNetError('OUT_OF_MEMORY', 'The browser gives no 2D canvas to read an image with');
  // A canvas keeps colours multiplied by their alpha, so that nothing is lost in another canvas.
  const isLossless = isA(source, 'HTMLCanvasElement') || isA(source, 'OffscreenCanvas');
  for (const { x, y, w, h } of tilesOf(width, height)) {
    context.clearRect(0, 0, w, h);
    if ('naturalWidth' in source) context.drawImage(source, -x, -y, width, height);
    else context.drawImage(source, -x, -y);
    const { data } = context.getImageData(0, 0, w, h);
    if (!isLossless && !isOpaque(data)) return false;
    copyTile(data, w, h, rgb, width, x, y);
  }
  return true;
}

function isOpaque(rgba: Uint8ClampedArray): boolean {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] !== 255) return false;
  return true;
}
