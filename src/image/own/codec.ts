/*
 * JPEG by libjpeg-turbo and WebP by libwebp, compiled to WebAssembly. Each picture has an instance of its own, so that
 * a file that breaks a decoder breaks no other picture, and its memory goes with it.
 */

export type Codec = 'jpeg' | 'webp';

/** What a decoder is given: plain data, which a worker can take too. */
export interface CodecTask {
  readonly codec: Codec;
  readonly module: WebAssembly.Module;
  readonly file: Uint8Array;
  readonly width: number;
  readonly height: number;
  /** A JPEG of four inks. */
  readonly isCmyk: boolean;
}

interface CodecExports {
  readonly memory: WebAssembly.Memory;
  malloc(size: number): number;
}

/** The TurboJPEG API: https://libjpeg-turbo.org/Documentation/Documentation */
interface JpegExports extends CodecExports {
  tjInitDecompress(): number;
  tjDecompressHeader3(
    handle: number,
    file: number,
    length: number,
    width: number,
    height: number,
    subsampling: number,
    colorspace: number,
  ): number;
  tjDecompress2(
    handle: number,
    file: number,
    length: number,
    pixels: number,
    width: number,
    stride: number,
    height: number,
    format: number,
    flags: number,
  ): number;
}

/** https://developers.google.com/speed/webp/docs/api */
interface WebpExports extends CodecExports {
  WebPDecodeRGBA(file: number, length: number, width: number, height: number): number;
}

/** TJPF_RGB and TJPF_CMYK. */
const TJ_RGB = 0;
const TJ_CMYK = 11;

/** The flags of accurate transforms and smooth upsampling, which are Pillow's too. */
const TJ_ACCURATE = 0;

/**
 * Decodes a file to RGB.
 * @throws Error with the reason if the data is broken, or there is no memory
 */
export function decodeWithCodec(task: CodecTask): Uint8Array<ArrayBuffer> {
  const { exports } = new WebAssembly.Instance(task.module, IMPORTS);
  return task.codec === 'jpeg'
    ? decodeJpeg(exports as unknown as JpegExports, task)
    : decodeWebp(exports as unknown as WebpExports, task);
}

/** The C library's exits. Neither decoder reads files, and what libjpeg would jump to is the end. */
const IMPORTS: WebAssembly.Imports = {
  env: { setjmp: () => 0, longjmp: refuse },
  wasi_snapshot_preview1: {
    environ_sizes_get: () => 0,
    environ_get: () => 0,
    proc_exit: refuse,
    fd_close: refuse,
    fd_seek: refuse,
    fd_write: refuse,
  },
};

function refuse(): never {
  throw new Error('its data is broken');
}

function allocate(exports: CodecExports, size: number): number {
  const at = exports.malloc(size);
  if (at === 0) throw new Error('the decoder found no memory');
  return at;
}

function put(exports: CodecExports, file: Uint8Array): number {
  const at = allocate(exports, file.length);
  new Uint8Array(exports.memory.buffer).set(file, at);
  return at;
}

function checkSize(exports: CodecExports, at: number, { width, height }: CodecTask): void {
  const [w, h] = new Int32Array(exports.memory.buffer, at, 2);
  if (w !== width || h !== height) throw new Error(`its data is of ${w}×${h} pixels, and its header says otherwise`);
}

function decodeJpeg(exports: JpegExports, task: CodecTask): Uint8Array<ArrayBuffer> {
  const { file, width, height, isCmyk } = task;
  const input = put(exports, file);
  const facts = allocate(exports, 16);
  const handle = exports.tjInitDecompress();
  if (exports.tjDecompressHeader3(handle, input, file.length, facts, facts + 4, facts + 8, facts + 12) !== 0) refuse();
  checkSize(exports, facts, task);
  const channels = isCmyk ? 4 : 3;
  const output = allocate(exports, width * height * channels);
  const format = isCmyk ? TJ_CMYK : TJ_RGB;
  // What it only warns of is no failure, as in Pillow; errors come by longjmp.
  exports.tjDecompress2(handle, input, file.length, output, width, 0, height, format, TJ_ACCURATE);
  const pixels = new Uint8Array(exports.memory.buffer, output, width * height * channels);
  return isCmyk ? invertedCmykToRGB(pixels) : pixels.slice();
}

/** As Pillow: ink takes its part of the light, rounded first, then taken off. JPEGs store inks inverted. */
function invertedCmykToRGB(inks: Uint8Array): Uint8Array<ArrayBuffer> {
  const rgb = new Uint8Array((inks.length / 4) * 3);
  for (let from = 0, to = 0; from < inks.length; from += 4) {
    const light = inks[from + 3] as number;
    for (let c = 0; c < 3; c++) rgb[to++] = light - Math.round(((255 - (inks[from + c] as number)) * light) / 255);
  }
  return rgb;
}

function decodeWebp(exports: WebpExports, task: CodecTask): Uint8Array<ArrayBuffer> {
  const { file, width, height } = task;
  const input = put(exports, file);
  const size = allocate(exports, 8);
  const output = exports.WebPDecodeRGBA(input, file.length, size, size + 4);
  if (output === 0) refuse();
  checkSize(exports, size, task);
  const rgba = new Uint8Array(exports.memory.buffer, output, width * height * 4);
  const rgb = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    rgb[to] = rgba[from] as number;
    rgb[to + 1] = rgba[from + 1] as number;
    rgb[to + 2] = rgba[from + 2] as number;
  }
  return rgb;
}
