import jpegModule from '@jsquash/jpeg/codec/dec/mozjpeg_dec.wasm';
import decodeJpeg, { init as initJpeg } from '@jsquash/jpeg/decode.js';
import pngModule from '@jsquash/png/codec/pkg/squoosh_png_bg.wasm';
import decodePng, { init as initPng } from '@jsquash/png/decode.js';

/* Edge workers have no image decoder of their own. */

// The decoders make one, and a worker has none.
globalThis.ImageData ??= class {
  constructor(data, width, height) {
    Object.assign(this, { data, width, height });
  }
};

let ready;

/** A JPEG or PNG file as pixels, RGBA. */
export async function decode(file) {
  ready ??= Promise.all([initJpeg(jpegModule), initPng(pngModule)]);
  await ready;
  return file[0] === 0xff ? decodeJpeg(file, { preserveOrientation: true }) : decodePng(file);
}
