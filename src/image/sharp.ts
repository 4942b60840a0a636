import { messageOf, VGGNetError } from '../errors.js';
import { type ImageHeader, nameOf } from './header.js';
import { IMAGE_LIMITS } from './limits.js';
import type { RawImage } from './raw-image.js';

/*
 * Decoding where there is no canvas: Node, Deno and Bun, by the optional package `sharp`.
 */

type Sharp = typeof import('sharp').default;

/**
 * Loads sharp.
 * @param load stands in for the import
 * @throws VGGNetError `MISSING_PEER` if it is not installed, or cannot run here
 */
export async function loadSharp(load: () => Promise<{ default: Sharp }> = importSharp): Promise<Sharp> {
  try {
    return (await load()).default;
  } catch (error) {
    throw new VGGNetError(
      'MISSING_PEER',
      'Reading image files here needs the package sharp: run `npm install sharp`, or pass decoded pixels as { data, width, height, channels }',
      { cause: error },
    );
  }
}

/** The name is a parameter, so that bundlers do not see it: a bundle for the web builds without sharp. */
function importSharp(name = 'sharp'): Promise<{ default: Sharp }> {
  return import(/* webpackIgnore: true */ /* @vite-ignore */ name);
}

/**
 * Decodes a whole file to 8-bit grey, RGB or RGBA as it is stored, turned by its EXIF orientation. Colour profiles
 * are ignored, as torchvision does; 16-bit values are scaled to 8 bits and rounded; CMYK becomes RGB as in Pillow,
 * `(255 − C)(255 − K) / 255`.
 * @throws VGGNetError `INVALID_IMAGE` if the data is broken or ends early; `MISSING_PEER`
 */
export async function decodeWithSharp(bytes: Uint8Array<ArrayBuffer>, header: ImageHeader): Promise<RawImage> {
  const sharp = await loadSharp();
  const isCmyk = header.components === 4;
  const isDeep = header.bitDepth > 8;
  try {
    const image = sharp(bytes, {
      // Broken and truncated data fail; what libjpeg only warns of does not, as in Pillow.
      failOn: 'error',
      limitInputPixels: IMAGE_LIMITS.pixels,
      ignoreIcc: true,
      autoOrient: true,
    });
    if (isCmyk) image.pipelineColourspace('cmyk').toColourspace('cmyk');
    else if (isDeep) image.toColourspace('rgb16');
    else image.toColourspace('srgb');
    const { data, info } = await image
      .raw({ depth: isDeep ? 'ushort' : 'uchar' })
      .toBuffer({ resolveWithObject: true });
    const { width, height } = info;
    if (isCmyk) return { data: cmykToRGB(data), width, height, channels: 3 };
    return { data: isDeep ? scale16(data) : data, width, height, channels: info.channels as 1 | 2 | 3 | 4 };
  } catch (error) {
    const why = messageOf(error).trim();
    throw new VGGNetError('INVALID_IMAGE', `${nameOf(header)} could not be decoded: ${why}`, { cause: error });
  }
}

/** 65535 becomes 255: `v / 257`, rounded. */
function scale16(data: Uint8Array): Uint8Array {
  const values = new Uint16Array(data.buffer, data.byteOffset, data.byteLength / 2);
  return Uint8Array.from(values, (value) => Math.round(value / 257));
}

function cmykToRGB(data: Uint8Array): Uint8Array {
  const rgb = new Uint8Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from += 4) {
    const light = 255 - (data[from + 3] as number);
    for (let c = 0; c < 3; c++) {
      // Ink takes its part of the light: rounded first, then taken off, as Pillow does.
      rgb[to++] = light - Math.round(((data[from + c] as number) * light) / 255);
    }
  }
  return rgb;
}
