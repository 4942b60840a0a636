import { parseMultipart } from '@remix-run/multipart-parser';
import { messageOf } from '../errors.js';
import { quote, RequestError } from './failure.js';

type Bytes = Uint8Array<ArrayBuffer>;

export interface Form {
  /** Views of the body. */
  readonly files: readonly Bytes[];
  /** Values of short text fields by their names; of equal names the last. */
  readonly fields: ReadonlyMap<string, string>;
}

export interface FormLimits {
  /** The most files. */
  readonly maxFiles: number;
}

/** Text fields that a form may have, the bytes of one's value that are read, and those of a part's head. */
const MAX_FIELDS = 16;
const MAX_FIELD_BYTES = 1024;
const MAX_HEADER_BYTES = 4096;

/**
 * Reads a form (RFC 7578) whose body is there. Nothing of it is copied, and no more parts are looked at than it may have.
 * @param contentType the request's header, with the boundary
 * @throws RequestError 400 if it is none; 413 if it has too many files
 */
export function parseForm(body: Bytes, contentType: string, { maxFiles }: FormLimits): Form {
  const boundary = /;\s*boundary=(?:"([^"]{1,70})"|([^\s;]{1,70}))/i.exec(contentType);
  const text = boundary?.[1] ?? boundary?.[2];
  if (text === undefined) throw invalid('its Content-Type has no boundary');
  const files: Bytes[] = [];
  const fields = new Map<string, string>();
  try {
    const options = {
      boundary: text,
      maxHeaderSize: MAX_HEADER_BYTES,
      maxFileSize: body.length,
      maxTotalSize: body.length,
      maxParts: maxFiles + MAX_FIELDS + 1,
    };
    let count = 0;
    for (const part of parseMultipart(body, options)) {
      const content = (part.content[0] ?? new Uint8Array(0)) as Bytes;
      if (part.isFile) {
        if (files.length === maxFiles) throw tooMany(`${maxFiles} files`);
        files.push(content);
      } else {
        if (++count > MAX_FIELDS) throw tooMany(`${MAX_FIELDS} text fields`);
        if (part.name && content.length <= MAX_FIELD_BYTES) fields.set(part.name, new TextDecoder().decode(content));
      }
    }
  } catch (error) {
    throw error instanceof RequestError ? error : invalid(messageOf(error));
  }
  return { files, fields };
}

function tooMany(most: string): RequestError {
  return new RequestError(413, 'FORM_TOO_LARGE', `A form may have at most ${most} here`);
}

function invalid(reason: string): RequestError {
  return new RequestError(400, 'INVALID_FORM', `The form cannot be read: ${quote(reason)}`);
}
