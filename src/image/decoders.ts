import { VGGNetError } from '../errors.js';
import { readOrientation } from './exif.js';
import type { ImageHeader } from './header.js';
import { decodeWithOwn, hasOwnDecoder, ownPeak } from './own/decode.js';
import type { RawImage } from './raw-image.js';
import { decodeWithSharp, loadSharp, type Sharp, sharpPeak } from './sharp.js';

/*
 * Decoding by something else than a canvas: sharp where it is installed, and the package's own decoders where it is
 * not, or the same pixels are asked for everywhere.
 */

interface Decoder {
  decode(file: Uint8Array<ArrayBuffer>): Promise<RawImage>;
  /** Bytes that it takes at its peak, with the result. */
  peak(file: Uint8Array): number;
}

/**
 * The decoder of a file.
 * @param sharpLoader stands in for loading sharp
 * @throws VGGNetError `MISSING_PEER` for a GIF where sharp does not run
 */
export async function chooseDecoder(
  header: ImageHeader,
  deterministic: boolean,
  sharpLoader: () => Promise<Sharp> = loadSharp,
): Promise<Decoder> {
  const own: Decoder = {
    decode: (file) => decodeWithOwn(file, header),
    peak: (file) => ownPeak(header, file, readOrientation(file, header.exif)),
  };
  if (deterministic && hasOwnDecoder(header)) return own;
  try {
    const sharp = await sharpLoader();
    return {
      decode: (file) => decodeWithSharp(sharp, file, header),
      peak: (file) => sharpPeak(header, file, readOrientation(file, header.exif)),
    };
  } catch (error) {
    if (error instanceof VGGNetError && error.code === 'MISSING_PEER' && hasOwnDecoder(header)) return own;
    throw error;
  }
}
