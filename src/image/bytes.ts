import { throwIfAborted, VGGNetError } from '../errors.js';
import { nodeFs } from '../platform/node.js';
import { describeUrl, pageUrl, reasonOf, redactUrls, userHeaders, withoutUser } from '../url.js';
import { checkImageBytes, IMAGE_LIMITS } from './limits.js';

/** What the bytes of an image file can be read from. */
export type ByteInput = string | URL | Uint8Array | ArrayBuffer | Blob | Response;

/**
 * Reads an image file, at most `IMAGE_LIMITS.bytes` of it. A string is a URL if it has the scheme http, https,
 * file, data or blob, and otherwise a path; where there is no file system, as in a page, a path is relative to it.
 * Bytes in memory are copied, so that the caller may use them again at once.
 * @throws VGGNetError `IO`, `IMAGE_TOO_LARGE`, `ABORTED`; `INVALID_ARGUMENT` if the input is something else
 */
export async function readImageBytes(input: ByteInput, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  if (typeof input === 'string' || input instanceof URL) return readLocation(input, signal);
  if (input instanceof Response) return readResponse(input, 'the response', signal);
  if (input instanceof Blob) {
    checkImageBytes(input.size);
    try {
      return new Uint8Array(await input.arrayBuffer());
    } catch (error) {
      throw new VGGNetError('IO', 'Could not read the image from its Blob', { cause: error });
    }
  }
  if (input instanceof Uint8Array || input instanceof ArrayBuffer) {
    checkImageBytes(input.byteLength);
    // A detached buffer has no bytes and may not be copied; it is refused as an empty file is.
    if (input.byteLength === 0) return new Uint8Array();
    return input instanceof Uint8Array ? new Uint8Array(input) : new Uint8Array(input.slice(0));
  }
  throw new VGGNetError(
    'INVALID_ARGUMENT',
    `An image is a path, URL, Uint8Array, ArrayBuffer, Blob, Response, raw pixels or a browser's picture, got ${describe(input)}`,
  );
}

function describe(input: unknown): string {
  if (input === null || typeof input !== 'object') return String(input);
  return input.constructor?.name ?? 'an object';
}

const URL_SCHEMES = new Set(['http:', 'https:', 'file:', 'data:', 'blob:']);

function readLocation(input: string | URL, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const url = input instanceof URL ? input : URL.canParse(input) ? new URL(input) : undefined;
  const isUrl = url !== undefined && URL_SCHEMES.has(url.protocol);
  if (input instanceof URL && !isUrl) {
    const known = [...URL_SCHEMES].join(', ');
    throw new VGGNetError('INVALID_ARGUMENT', `An image's URL begins with one of ${known}, got '${input.protocol}'`);
  }
  if (nodeFs() && (!isUrl || url.protocol === 'file:')) return readFile(isUrl ? url : String(input), signal);
  const target = isUrl ? url : pageUrl(String(input));
  if (!target) {
    throw new VGGNetError('IO', `Cannot open '${shorten(input)}': this runtime has no files, and it is not a URL`);
  }
  return readUrl(target, signal);
}

/** A location as a message shows it; one that is no path can be megabytes long. */
function shorten(location: string | URL): string {
  const text = redactUrls(String(location));
  return text.length > 200 ? `${text.slice(0, 200)}…` : text;
}

async function readFile(path: string | URL, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  try {
    const { readRegularFile } = await import('./file.js');
    return await readRegularFile(path, signal);
  } catch (error) {
    if (error instanceof VGGNetError) throw error;
    throw new VGGNetError('IO', `Could not read the image '${shorten(path)}': ${reasonOf(error)}`, { cause: error });
  }
}

async function readUrl(url: URL, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  // What a data: URL makes is at most as long as itself, so that this never refuses one within the limit.
  if (url.protocol === 'data:' && url.href.length > 3 * IMAGE_LIMITS.bytes + 1024) checkImageBytes(Infinity);
  const label = describeUrl(url);
  let response: Response;
  try {
    response = await fetch(withoutUser(url), { signal: signal ?? null, headers: userHeaders(url) });
  } catch (error) {
    throwIfAborted(signal);
    throw new VGGNetError('IO', `Could not fetch the image from ${label}: ${reasonOf(error)}`, { cause: error });
  }
  return readResponse(response, label, signal);
}

async function readResponse(response: Response, from: string, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  if (response.bodyUsed) throw new VGGNetError('IO', `The body of ${from} was read already`);
  const cancel = (): void => void response.body?.cancel().catch(() => {});
  if (!response.ok) {
    cancel();
    throw new VGGNetError(
      'IO',
      `Could not fetch the image: ${from} gave status ${response.status} ${response.statusText}`,
    );
  }
  const stated = Number(response.headers.get('content-length') ?? 0);
  if (stated > IMAGE_LIMITS.bytes) cancel();
  checkImageBytes(stated);
  if (!response.body) return new Uint8Array();
  return readStream(response.body, from, signal);
}

async function readStream(
  stream: ReadableStream<Uint8Array>,
  from: string,
  signal?: AbortSignal,
): Promise<Uint8Array<ArrayBuffer>> {
  const reader = stream.getReader();
  const cancel = (): void => void reader.cancel(signal?.reason).catch(() => {});
  signal?.addEventListener('abort', cancel);
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for (;;) {
      throwIfAborted(signal);
      const { done, value } = await reader.read();
      throwIfAborted(signal);
      if (done) break;
      size += value.byteLength;
      if (size > IMAGE_LIMITS.bytes) checkImageBytes(Infinity);
      chunks.push(value);
    }
  } catch (error) {
    cancel();
    throwIfAborted(signal);
    if (error instanceof VGGNetError) throw error;
    throw new VGGNetError('IO', `Could not read the image from ${from}: ${reasonOf(error)}`, { cause: error });
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const chunk of chunks) {
    bytes.set(chunk, at);
    at += chunk.byteLength;
  }
  return bytes;
}
