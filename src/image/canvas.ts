import { VGGNetError } from '../errors.js';
import { applyOrientation, hideExif, readOrientation } from './exif.js';
import { type ImageHeader, nameOf } from './header.js';
import { checkImageSize } from './limits.js';
import type { PlainImage } from './raw-image.js';

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

/** Pixels are read in squares of this side: any canvas and any texture can be as large as that. */
const TILE = 2048;

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
  const orientation = readOrientation(bytes, header.exif);
  const blob = new Blob([hideExif(bytes, header)], { type: `image/${header.format}` });
  try {
    bitmap = await createImageBitmap(blob, AS_STORED);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new VGGNetError('INVALID_IMAGE', `${nameOf(header)} could not be decoded: ${why}`, { cause: error });
  }
  try {
    return applyOrientation(await readDrawable(bitmap), orientation);
  } finally {
    bitmap.close();
  }
}

const AS_STORED = { premultiplyAlpha: 'none', colorSpaceConversion: 'none' } as const;

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
    if (!readOpaque(source, width, height, rgb)) await readTransparent(source, width, height, rgb);
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

function* tilesOf(width: number, height: number): Generator<{ x: number; y: number; w: number; h: number }> {
  for (let y = 0; y < height; y += TILE) {
    for (let x = 0; x < width; x += TILE) {
      yield { x, y, w: Math.min(TILE, width - x), h: Math.min(TILE, height - y) };
    }
  }
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

/**
 * Reads by a WebGL texture, which takes colours as they are stored. A 2D canvas multiplies them by their alpha and
 * divides again, and nothing is left of those that are fully transparent.
 */
async function readTransparent(source: Drawable, width: number, height: number, rgb: Uint8Array): Promise<void> {
  const gl = new OffscreenCanvas(1, 1).getContext('webgl2');
  if (!gl) {
    throw new VGGNetError(
      'BACKEND_UNAVAILABLE',
      'Reading the colours of an image with transparent pixels needs WebGL 2, which this browser does not give; draw the image on a canvas of the background wanted and pass that',
    );
  }
  try {
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
    gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
    gl.pixelStorei(gl.UNPACK_COLORSPACE_CONVERSION_WEBGL, gl.NONE);
    for (const { x, y, w, h } of tilesOf(width, height)) {
      const tile = await createImageBitmap(source, x, y, w, h, AS_STORED);
      gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA8, gl.RGBA, gl.UNSIGNED_BYTE, tile);
      tile.close();
      gl.framebufferTexture2D(
        gl.FRAMEBUFFER,
        gl.COLOR_ATTACHMENT0,
        gl.TEXTURE_2D,
        gl.getParameter(gl.TEXTURE_BINDING_2D),
        0,
      );
      const data = new Uint8Array(w * h * 4);
      gl.readPixels(0, 0, w, h, gl.RGBA, gl.UNSIGNED_BYTE, data);
      const failure = gl.getError();
      if (failure !== gl.NO_ERROR) throw new Error(`WebGL error ${failure}`);
      copyTile(data, w, h, rgb, width, x, y);
    }
  } finally {
    gl.getExtension('WEBGL_lose_context')?.loseContext();
  }
}

/** Copies the colours of an RGBA tile of w×h to (x, y) of an RGB image. */
function copyTile(
  tile: Uint8Array | Uint8ClampedArray,
  w: number,
  h: number,
  rgb: Uint8Array,
  width: number,
  x: number,
  y: number,
): void {
  for (let row = 0, from = 0; row < h; row++) {
    let to = ((y + row) * width + x) * 3;
    for (let column = 0; column < w; column++, from += 4, to += 3) {
      rgb[to] = tile[from] as number;
      rgb[to + 1] = tile[from + 1] as number;
      rgb[to + 2] = tile[from + 2] as number;
    }
  }
}
