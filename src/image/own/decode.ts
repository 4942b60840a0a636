import { messageOf, VGGNetError } from '../../errors.js';
import { loadCodec, startCodecWorker } from '../../platform/codecs.js';
import { applyOrientation, readOrientation } from '../exif.js';
import { type ImageHeader, nameOf } from '../header.js';
import type { PlainImage } from '../raw-image.js';
import { inSlices } from '../steps.js';
import { type CodecTask, decodeWithCodec } from './codec.js';
import { decodePng } from './png.js';
import type { CodecResult } from './worker.js';

/*
 * The package's own decoders, for JPEG, PNG and WebP: where there is no other, and wherever the same pixels are asked
 * for in every runtime.
 */

/** Pixels from which a thread of its own is worth its start: some 10 ms of decoding. */
const WORTH_A_WORKER = 200_000;

export function hasOwnDecoder({ format }: ImageHeader): boolean {
  return format !== 'gif';
}

/**
 * Decodes a JPEG, PNG or WebP to upright RGB: the pixels of Pillow.
 * @throws VGGNetError `INVALID_IMAGE` if the data is broken; `IO` or `BACKEND_UNAVAILABLE` if the decoder cannot be had
 */
export async function decodeWithOwn(file: Uint8Array<ArrayBuffer>, header: ImageHeader): Promise<PlainImage> {
  let image: PlainImage;
  try {
    image = await (header.format === 'png' ? decodePng(file, header) : decodeByCodec(file, header));
  } catch (error) {
    if (error instanceof VGGNetError) throw error;
    const why = messageOf(error);
    throw new VGGNetError('INVALID_IMAGE', `${nameOf(header)} could not be decoded: ${why}`, { cause: error });
  }
  return inSlices(applyOrientation(image, readOrientation(file, header.exif)));
}

async function decodeByCodec(file: Uint8Array, header: ImageHeader): Promise<PlainImage> {
  const { width, height, components } = header;
  const codec = header.format === 'jpeg' ? 'jpeg' : 'webp';
  const module = await loadCodec(codec);
  const task = { codec, module, file, width, height, isCmyk: components === 4 } as const;
  const worker = width * height >= WORTH_A_WORKER ? startCodecWorker() : undefined;
  const data = worker ? await inWorker(worker, task) : decodeWithCodec(task);
  return { data, width, height, channels: 3 };
}

/** Ends the worker with the picture, which gives back its memory at once. */
async function inWorker(
  worker: import('node:worker_threads').Worker,
  task: CodecTask,
): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const result = await new Promise<CodecResult>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
      worker.once('exit', (code) => reject(new Error(`the decoder's thread ended with code ${code}`)));
      worker.postMessage(task);
    });
    if ('failure' in result) throw new Error(result.failure);
    return result.rgb;
  } finally {
    void worker.terminate();
  }
}

/** Bytes that these decoders take at their peak, with the result. */
export function ownPeak(header: ImageHeader, file: Uint8Array, orientation: number): number {
  const { width, height, format, components, density, isProgressive, hasAlpha } = header;
  let perPixel = 3;
  // The decoder's pixels and those given to the caller.
  if (format === 'jpeg') perPixel += Math.max(3, components) + (isProgressive ? 2 * density : 0);
  if (format === 'webp') perPixel += 8 + (hasAlpha ? 1 : 0);
  // Turning comes when the decoder has ended.
  if (orientation > 1) perPixel = Math.max(perPixel, 6);
  const copies = format === 'png' ? 0 : 2 * file.length;
  return width * height * perPixel + copies + OWN_BUFFERS;
}

/** A thread and a decoder's tables. */
const OWN_BUFFERS = 4 * 2 ** 20;
