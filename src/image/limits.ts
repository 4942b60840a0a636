import { VGGNetError } from '../errors.js';

/** What an image may have at most. Checked on the file's header, before anything is decoded. */
export const IMAGE_LIMITS: {
  /** Width times height. */
  readonly pixels: number;
  /** Width or height, in pixels. */
  readonly side: number;
  /** The file, in bytes. */
  readonly bytes: number;
} = { pixels: 100_000_000, side: 32_767, bytes: 64 * 2 ** 20 };

/**
 * Checks the size of an image.
 * @param what what has this size, for the message: 'A PNG image'
 * @throws VGGNetError `INVALID_IMAGE` if a side is not an integer of at least 1; `IMAGE_TOO_LARGE` over the limits
 */
export function checkImageSize(what: string, width: number, height: number): void {
  if (!Number.isInteger(width) || !Number.isInteger(height) || width < 1 || height < 1) {
    throw new VGGNetError('INVALID_IMAGE', `${what} must be at least 1×1 pixels, got ${width}×${height}`);
  }
  const { side, pixels } = IMAGE_LIMITS;
  if (width > side || height > side || width * height > pixels) {
    throw new VGGNetError(
      'IMAGE_TOO_LARGE',
      `${what} may have at most ${side} pixels a side and ${pixels / 1e6} megapixels, got ${width}×${height}`,
    );
  }
}

/** @throws VGGNetError `IMAGE_TOO_LARGE` if a file of this many bytes is over the limit */
export function checkImageBytes(bytes: number): void {
  if (bytes > IMAGE_LIMITS.bytes) {
    throw new VGGNetError(
      'IMAGE_TOO_LARGE',
      `An image file may have at most ${IMAGE_LIMITS.bytes} bytes, got ${bytes === Infinity ? 'more' : bytes}`,
    );
  }
}
