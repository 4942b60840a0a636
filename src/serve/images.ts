import { abortable } from '../abort.js';
import { messageOf } from '../errors.js';
import { decodeImage } from '../image/decode.js';
import { readImageHeader } from '../image/header.js';
import { preprocess } from '../image/preprocess.js';
import type { RawImage } from '../image/raw-image.js';
import type { VGGNet } from '../model.js';
import type { Tensor } from '../tensor.js';
import { RequestError } from './failure.js';

type File = Uint8Array<ArrayBuffer>;

/** How an image file of a request becomes the model's input. */
export interface ImageReader {
  readonly maxPixels: number;
  readonly decode: ((file: File, signal: AbortSignal) => Promise<RawImage>) | undefined;
}

/**
 * The image files of a request: its body, or the parts of a form.
 * @throws RequestError 400 or 415
 */
export async function imageFiles(request: Request): Promise<{ files: File[]; many: boolean }> {
  const type = (request.headers.get('content-type') ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
  if (type === 'multipart/form-data') {
    const form = await request.formData().catch((error: unknown) => {
      throw new RequestError(400, 'INVALID_FORM', `The form cannot be read: ${messageOf(error)}`);
    });
    const parts = [...form].map(([, value]) => value).filter((value) => typeof value !== 'string');
    if (parts.length === 0) throw new RequestError(400, 'NO_IMAGE', 'Expected a file in the form, got none');
    return {
      files: await Promise.all(parts.map(async (part) => new Uint8Array(await part.arrayBuffer()))),
      many: true,
    };
  }
  if (type !== '' && type !== 'application/octet-stream' && !type.startsWith('image/')) {
    throw new RequestError(
      415,
      'UNSUPPORTED_MEDIA_TYPE',
      `Expected an image or a multipart form as the body, got ${type}; images are never fetched from a URL`,
    );
  }
  const file = new Uint8Array(await request.arrayBuffer());
  if (file.length === 0) throw new RequestError(400, 'NO_IMAGE', 'Expected an image in the body, got an empty one');
  return { files: [file], many: false };
}

/**
 * An image file as the model's input (1, C, H, W). Its size is checked before it is decoded.
 * @throws RequestError 413; VGGNetError `INVALID_IMAGE`, `IMAGE_TOO_LARGE`, `MISSING_PEER`, `ABORTED`
 */
export async function imageInput(file: File, model: VGGNet, reader: ImageReader, signal: AbortSignal): Promise<Tensor> {
  const { width, height } = readImageHeader(file);
  if (width * height > reader.maxPixels) {
    throw new RequestError(
      413,
      'IMAGE_TOO_LARGE',
      `An image may have at most ${reader.maxPixels} pixels here, got ${width}×${height}`,
    );
  }
  const { preset } = model.config;
  if (!preset) throw new RequestError(501, 'NO_PRESET', 'This network takes tensors only: use /v2');
  const image = await abortable(reader.decode?.(file, signal) ?? decodeImage(file, { signal }), signal);
  return preprocess(image, preset);
}
