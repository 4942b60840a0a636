import { abortable } from '../abort.js';
import { throwIfAborted, VGGNetError } from '../errors.js';
import { type ByteInput, readImageBytes } from './bytes.js';
import { type Drawable, decodeWithCanvas, hasCanvas, isDrawable, readDrawable } from './canvas.js';
import { type ImageHeader, nameOf, readImageHeader } from './header.js';
import { checkImageSize } from './limits.js';
import { checkRawImage, type PlainImage, type RawImage, toRGB } from './raw-image.js';

/**
 * All that an image can be given as: a file's path, URL, bytes, Blob or Response (JPEG, PNG, WebP or still GIF);
 * pixels, such as ImageData; or what a browser holds decoded.
 */
export type ImageInput = ByteInput | RawImage | Drawable;

export interface DecodeOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * Decodes an image to 8-bit RGB, upright, as Pillow's `ImageOps.exif_transpose(Image.open(f)).convert('RGB')` does:
 * grey is repeated, palettes are looked up, CMYK is converted, and alpha is dropped with the colours under it kept.
 * Values of 16 bits are scaled to 8 (Pillow clips grey ones). Colour profiles are ignored, as torchvision ignores them.
 *
 * Files are decoded by the platform where it has a canvas, else by the optional package sharp. A browser converts
 * CMYK by a rule of its own. Pixels given as RGB come back without a copy.
 * @throws VGGNetError `INVALID_IMAGE` if it is no image, broken, truncated, animated or empty; `IMAGE_TOO_LARGE` over
 * `IMAGE_LIMITS`; `IO`, `MISSING_PEER`, `BACKEND_UNAVAILABLE`, `ABORTED`, `INVALID_ARGUMENT`
 */
export async function decodeImage(input: ImageInput, options: DecodeOptions = {}): Promise<PlainImage> {
  const { signal } = options;
  throwIfAborted(signal);
  if (isDrawable(input)) return abortable(readDrawable(input), signal);
  if (isRawImage(input)) {
    checkRawImage(input);
    return toRGB(input);
  }
  const bytes = await readImageBytes(input, signal);
  throwIfAborted(signal);
  const header = checkedHeader(bytes);
  keepTransparentColour(bytes, header);
  const decoded = hasCanvas() ? decodeWithCanvas(bytes, header) : withSharp(bytes, header);
  const image = await abortable(decoded, signal);
  return toRGB(image);
}

async function withSharp(bytes: Uint8Array<ArrayBuffer>, header: ImageHeader): Promise<RawImage> {
  const { decodeWithSharp } = await import('./sharp.js');
  return decodeWithSharp(bytes, header);
}

function isRawImage(input: ImageInput): input is RawImage {
  return typeof input === 'object' && input !== null && 'data' in input && 'width' in input && 'height' in input;
}

function checkedHeader(bytes: Uint8Array): ImageHeader {
  const header = readImageHeader(bytes);
  checkImageSize(nameOf(header), header.width, header.height);
  if (header.frames > 1) {
    throw new VGGNetError(
      'INVALID_IMAGE',
      `Expected a still image, got ${nameOf(header).replace('A', 'a')} of ${header.frames} frames`,
    );
  }
  return header;
}

/** Decoders give a GIF's transparent pixels as black. Without its transparency they keep their colour. */
function keepTransparentColour(bytes: Uint8Array, { transparencyAt }: ImageHeader): void {
  if (transparencyAt !== undefined) bytes[transparencyAt] = (bytes[transparencyAt] as number) & ~1;
}
