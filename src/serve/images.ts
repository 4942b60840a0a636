import { RequestError } from './failure.js';
import { parseForm } from './form.js';
import { type Incoming, mediaType } from './incoming.js';

type Bytes = Uint8Array<ArrayBuffer>;

export interface ImageFiles {
  readonly files: readonly Bytes[];
  /** True for a form, which is answered by a list. */
  readonly many: boolean;
  /** What a form says of `topK`. */
  readonly topK: string | undefined;
}

/**
 * The image files of a request: its body, whatever its type says, or the files of a form.
 * @throws RequestError 400, 413 or 415
 */
export function imageFiles(incoming: Incoming, body: Bytes, maxFiles: number): ImageFiles {
  const type = mediaType(incoming);
  if (type === 'multipart/form-data') {
    const { files, fields } = parseForm(body, incoming.headers.get('content-type') ?? '', { maxFiles });
    if (files.length === 0) throw new RequestError(400, 'NO_IMAGE', 'Expected a file in the form, got none');
    return { files, many: true, topK: fields.get('topK') };
  }
  if (body.length === 0) throw new RequestError(400, 'NO_IMAGE', 'Expected an image in the body, got an empty one');
  const isOther = type !== '' && type !== 'application/octet-stream' && !type.startsWith('image/');
  // curl --data-binary says that it is a form's text.
  if (isOther && !looksLikeImage(body)) {
    throw new RequestError(
      415,
      'UNSUPPORTED_MEDIA_TYPE',
      'Expected an image or a multipart form as the body; images are never fetched from a URL',
    );
  }
  return { files: [body], many: false, topK: undefined };
}

/** JPEG, PNG, GIF, and WebP's RIFF. */
const BEGINNINGS = [[0xff, 0xd8, 0xff], [0x89, 0x50, 0x4e, 0x47], [...'GIF8'].map(codeOf), [...'RIFF'].map(codeOf)];

function codeOf(char: string): number {
  return char.charCodeAt(0);
}

function looksLikeImage(file: Uint8Array): boolean {
  return BEGINNINGS.some((bytes) => bytes.every((byte, i) => file[i] === byte));
}
