import { abortable } from '../abort.js';
import { throwIfAborted, VGGNetError } from '../errors.js';
import { type ByteInput, readImageBytes } from './bytes.js';
import { type Drawable, decodeWithCanvas, hasCanvas, isDrawable, readDrawable } from './canvas.js';
import { type ImageHeader, imageHeaderSteps, nameOf } from './header.js';
import { checkImageSize } from './limits.js';
import { checkRawImage, type PlainImage, type RawImage, toRGB } from './raw-image.js';
import { inSlices, type Steps } from './steps.js';

/**
 * All that an image can be given as: a file's path, URL, bytes, Blob or Response (JPEG, PNG, WebP or still GIF);
 * pixels, such as ImageData; or what a browser holds decoded.
 */
export type ImageInput = ByteInput | RawImage | Drawable;

export interface DecodeOptions {
  readonly signal?: AbortSignal | undefined;
  /**
   * Whether JPEG, PNG and WebP are decoded by the package's own decoders, which give the same pixels in every runtime,
   * also where there is a canvas or sharp. Default false.
   */
  readonly deterministic?: boolean | undefined;
}

/**
 * Decodes an image to 8-bit RGB, upright, as Pillow's `ImageOps.exif_transpose(Image.open(f)).convert('RGB')` does:
 * grey is repeated, palettes are looked up, CMYK is converted, and alpha is dropped with the colours under it kept.
 * Values of 16 bits are scaled to 8 (Pillow clips grey ones). Colour profiles are ignored, as torchvision ignores them.
 *
 * Files are decoded by the platform where it has a canvas, else by the optional package sharp if it is installed, else
 * by the package's own decoders, which know no GIF. A browser converts CMYK by a rule of its own. Pixels given as RGB
 * come back without a copy.
 * @throws VGGNetError `INVALID_IMAGE` if it is no image, broken, truncated, animated or empty; `IMAGE_TOO_LARGE` over
 * `IMAGE_LIMITS`; `IO`, `MISSING_PEER`, `BACKEND_UNAVAILABLE`, `ABORTED`, `INVALID_ARGUMENT`
 */
export async function decodeImage(input: ImageInput, options: DecodeOptions = {}): Promise<PlainImage> {
  const { signal, deterministic } = options;
  throwIfAborted(signal);
  if (isDrawable(input)) return abortable(readDrawable(input), signal);
  if (isRawImage(input)) {
    checkRawImage(input);
    return inSlices(toRGB(input), signal);
  }
  const bytes = await readImageBytes(input, signal);
  throwIfAborted(signal);
  const header = await inSlices(checkedHeader(bytes), signal);
  return inSlices(toRGB(await abortable(decodeFile(bytes, header, deterministic), signal)), signal);
}

/**
 * Decodes a file by the decoder that there is here.
 * @param bytes not changed; they must stay as they are until the promise settles
 * @returns 8-bit pixels, upright
 * @throws VGGNetError `INVALID_IMAGE`, `MISSING_PEER`, `BACKEND_UNAVAILABLE`
 */
export async function decodeFile(
  bytes: Uint8Array<ArrayBuffer>,
  header: ImageHeader,
  deterministic = false,
): Promise<RawImage> {
  const file = keepTransparentColor(bytes, header);
  if (usesCanvas(header, deterministic)) return decodeWithCanvas(file, header);
  const { chooseDecoder } = await import('./decoders.js');
  return (await chooseDecoder(header, deterministic)).decode(file);
}

/** Any decoder gives the same pixels of a GIF. */
export function usesCanvas(header: ImageHeader, deterministic: boolean): boolean {
  return (!deterministic || header.format === 'gif') && hasCanvas();
}

function isRawImage(input: ImageInput): input is RawImage {
  return typeof input === 'object' && input !== null && 'data' in input && 'width' in input && 'height' in input;
}

/**
 * The header of a still picture within the limits.
 * @throws VGGNetError `INVALID_IMAGE`, `IMAGE_TOO_LARGE`
 */
export function* checkedHeader(bytes: Uint8Array): Steps<ImageHeader> {
  const header = yield* imageHeaderSteps(bytes);
  checkImageSize(nameOf(header), header.width, header.height);
  if (header.frames > 1) {
    throw new VGGNetError(
      'INVALID_IMAGE',
      `Expected a still image, got ${nameOf(header).replace('A', 'a')} of ${header.frames} frames`,
    );
  }
  return header;
}

/** Decoders give a GIF's transparent pixels as black. In a copy without its transparency they keep their color. */
function keepTransparentColor(
  bytes: Uint8Array<ArrayBuffer>,
  { transparencyAt }: ImageHeader,
): Uint8Array<ArrayBuffer> {
  if (transparencyAt === undefined) return bytes;
  const opaque = new Uint8Array(bytes);
  opaque[transparencyAt] = (opaque[transparencyAt] as number) & ~1;
  return opaque;
}
