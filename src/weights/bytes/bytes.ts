import { throwIfAborted, VGGNetError } from '../../errors.js';
import { nodeFs } from '../../platform/node.js';
import { describeUrl, pageUrl, reasonOf, redactUrls, userHeaders, withoutUser } from '../../url.js';

/**
 * Where weights come from: a path or URL, bytes in memory, a Blob or File, a Response, or a stream. A string is a
 * URL if its scheme is http, https, file, data or blob, and else a path; where there are no files, a URL relative
 * to the page.
 */
export type WeightsInput = string | URL | Uint8Array | ArrayBuffer | Blob | Response | ReadableStream<Uint8Array>;

/** Bytes that are read from the first to the last; of some, any part can be read at any time (`seek`). */
export interface ByteSource {
  /** What messages call it. */
  readonly label: string;
  /** How many there are, where that is certain before they are read. */
  readonly size: number | undefined;
  /** How many there should be, for progress only: a server may be wrong. */
  readonly expectedSize: number | undefined;
  /** Fills `into`, and gives the number of bytes, which is less only at the end. One call at a time. */
  read(into: Uint8Array<ArrayBuffer>): Promise<number>;
  /** Passes over bytes, and gives how many there were. */
  skip(count: number): Promise<number>;
  /**
   * Goes to a byte, from which the next read starts. A file, bytes in memory and a Blob have it, and their `size` is
   * known; a stream has not.
   */
  readonly seek?: (position: number) => void;
  /** Closes the file or cancels the stream. May be called twice. */
  close(): Promise<void>;
}

/**
 * Opens whatever the caller has.
 * @throws VGGNetError `INVALID_ARGUMENT` for a thing of another kind or a stream in use; `IO` if it cannot be opened;
 * `ABORTED`
 */
export async function openBytes(input: WeightsInput, signal?: AbortSignal): Promise<ByteSource> {
  throwIfAborted(signal);
  if (typeof input === 'string') return openString(input, signal);
  if (input instanceof URL) return openUrl(input, signal);
  // By tag or shape and not by class: these may come from a package or another realm.
  if (tagOf(input) === 'ArrayBuffer') return memorySource(bytesOf(input as ArrayBuffer));
  if (isBytes(input)) return memorySource(input);
  if (isStream(input)) return streamSource(input, 'the stream');
  if (isResponse(input)) return responseSource(input, describeResponse(input));
  if (isBlob(input)) return blobSource(input);
  throw new VGGNetError(
    'INVALID_ARGUMENT',
    `Expected weights as a path, URL, Uint8Array, ArrayBuffer, Blob, Response or ReadableStream, got ${kindOf(input)}`,
  );
}

const URL_SCHEME = /^(?:https?|file|data|blob):/i;

async function openString(input: string, signal: AbortSignal | undefined): Promise<ByteSource> {
  if (input === '') throw new VGGNetError('INVALID_ARGUMENT', 'Expected a path or URL of weights, got an empty string');
  if (URL_SCHEME.test(input) && URL.canParse(input)) return openUrl(new URL(input), signal);
  if (nodeFs()) return (await import('./file.js')).openFile(input);
  const url = pageUrl(input);
  if (!url) {
    throw new VGGNetError('IO', `Cannot open '${redactUrls(input)}': this runtime has no files, and it is not a URL`);
  }
  return openUrl(url, signal);
}

async function openUrl(url: URL, signal: AbortSignal | undefined): Promise<ByteSource> {
  if (url.protocol === 'file:' && nodeFs()) return (await import('./file.js')).openFile(url);
  const label = describeUrl(url);
  let response: Response;
  try {
    response = await fetch(withoutUser(url), { signal: signal ?? null, headers: userHeaders(url) });
  } catch (cause) {
    throwIfAborted(signal);
    throw new VGGNetError('IO', `Could not fetch ${label}: ${reasonOf(cause)}`, { cause });
  }
  return responseSource(response, label);
}

function describeResponse({ url }: Response): string {
  return typeof url === 'string' && URL.canParse(url) ? describeUrl(new URL(url)) : 'the response';
}

function responseSource(response: Response, label: string): ByteSource {
  if (response.bodyUsed || response.body?.locked) {
    throw new VGGNetError(
      'INVALID_ARGUMENT',
      'Expected a Response whose body is unread, got one already read or locked',
    );
  }
  if (!response.ok) {
    response.body?.cancel().catch(() => {});
    throw new VGGNetError('IO', `${label}: HTTP ${response.status} ${response.statusText}`.trimEnd());
  }
  if (!response.body) return memorySource(new Uint8Array(0), label);
  if (!isStream(response.body)) {
    throw new VGGNetError(
      'INVALID_ARGUMENT',
      `Expected a Response with a stream as its body, got ${kindOf(response.body)}`,
    );
  }
  const length = Number(response.headers.get('content-length') ?? Number.NaN);
  const plain = !response.headers.get('content-encoding') && Number.isSafeInteger(length) && length > 0;
  return streamSource(response.body, label, plain ? length : undefined);
}

/** @throws VGGNetError `INVALID_ARGUMENT` if they were transferred to a worker, say */
function bytesOf(buffer: ArrayBuffer): Uint8Array {
  try {
    return new Uint8Array(buffer);
  } catch (cause) {
    throw new VGGNetError('INVALID_ARGUMENT', 'Expected bytes, got an ArrayBuffer that is detached', { cause });
  }
}

function memorySource(bytes: Uint8Array, label = 'the bytes'): ByteSource {
  const size = bytes.length;
  return seekable(label, size, (from, to) => {
    if (bytes.length !== size) {
      throw new VGGNetError(
        'IO',
        `${label} were ${size}, and are ${bytes.length}: detached or resized while they were read`,
      );
    }
    return bytes.subarray(from, to);
  });
}

function blobSource(blob: Blob): ByteSource {
  const label = 'name' in blob && typeof blob.name === 'string' ? `file '${blob.name.slice(0, 200)}'` : 'the blob';
  const { size } = blob;
  if (!Number.isSafeInteger(size) || size < 0) {
    throw new VGGNetError('INVALID_ARGUMENT', `Expected a Blob, got one of ${String(size)} bytes`);
  }
  return seekable(label, size, async (from, to) => {
    let buffer: ArrayBuffer;
    try {
      buffer = await blob.slice(from, to).arrayBuffer();
    } catch (cause) {
      throw new VGGNetError('IO', `Could not read ${label}: ${reasonOf(cause)}`, { cause });
    }
    if (tagOf(buffer) !== 'ArrayBuffer' || buffer.byteLength !== to - from) {
      throw new VGGNetError(
        'IO',
        `${label} gave ${buffer?.byteLength} bytes where it has ${to - from}, from byte ${from}`,
      );
    }
    return new Uint8Array(buffer);
  });
}

/** @param part gives the bytes between two places, neither of them after the end */
function seekable(
  label: string,
  size: number,
  part: (from: number, to: number) => Uint8Array | Promise<Uint8Array>,
): ByteSource {
  let position = 0;
  return {
    label,
    size,
    expectedSize: size,
    async read(into) {
      const to = Math.min(position + into.length, size);
      if (to <= position) return 0;
      const bytes = await part(position, to);
      into.set(bytes);
      position += bytes.length;
      return bytes.length;
    },
    skip(count) {
      const skipped = Math.min(count, size - position);
      position += skipped;
      return Promise.resolve(skipped);
    },
    seek(to) {
      position = Math.min(to, size);
    },
    close: () => Promise.resolve(),
  };
}

/** A stream that gives so many chunks without a byte never gives one. */
const MAX_EMPTY_CHUNKS = 10_000;

function streamSource(stream: ReadableStream<Uint8Array>, label: string, expectedSize?: number): ByteSource {
  if (stream.locked) throw new VGGNetError('INVALID_ARGUMENT', 'Expected an unread stream, got one that is locked');
  const chunks = chunksOf(stream, label);
  let chunk: Uint8Array = new Uint8Array(0);
  /** Of the chunk when it came: one that its owner detaches or resizes is shorter later. */
  let length = 0;
  let used = 0;
  let ended = false;

  /** Makes the chunk hold a byte that was not used, unless the stream has ended. */
  async function fetchMore(): Promise<void> {
    for (let empty = 0; !ended && used === length; empty++) {
      if (empty === MAX_EMPTY_CHUNKS) throw new VGGNetError('IO', `${label} gave ${empty} empty chunks in a row`);
      let result: ReadableStreamReadResult<Uint8Array>;
      try {
        result = await chunks.next();
      } catch (cause) {
        if (cause instanceof VGGNetError) throw cause;
        throw new VGGNetError('IO', `Could not read ${label}: ${reasonOf(cause)}`, { cause });
      }
      if (typeof result !== 'object' || result === null) {
        throw new VGGNetError('IO', `Could not read ${label}: its reader gave ${kindOf(result)}`);
      }
      if (result.done) {
        ended = true;
      } else if (isBytes(result.value)) {
        chunk = result.value;
        length = chunk.length;
        used = 0;
      } else {
        throw new VGGNetError('INVALID_ARGUMENT', `Expected a stream of Uint8Array, got ${kindOf(result.value)} in it`);
      }
    }
  }

  async function take(count: number, use: (part: Uint8Array, at: number) => void): Promise<number> {
    let taken = 0;
    while (taken < count) {
      await fetchMore();
      if (used === length) break;
      if (chunk.length !== length) {
        throw new VGGNetError('IO', `${label} gave a chunk that was detached or resized while it was read`);
      }
      const part = chunk.subarray(used, used + count - taken);
      use(part, taken);
      used += part.length;
      taken += part.length;
    }
    return taken;
  }

  return {
    label,
    size: undefined,
    expectedSize,
    read: (into) => take(into.length, (part, at) => into.set(part, at)),
    skip: (count) => take(count, () => {}),
    close() {
      ended = true;
      chunk = new Uint8Array(0);
      length = 0;
      used = 0;
      // Not awaited: what the stream's owner does on cancel is his, and may take for ever.
      chunks.cancel().catch(() => {});
      return Promise.resolve();
    },
  };
}

/** Bytes asked for at once of a stream that fills a buffer. */
const BUFFER_BYTES = 2 ** 17;

/**
 * Chunks of a stream, each good until the next is asked for. A stream of bytes fills the same buffer again and again;
 * by default edge workers would make an array for every 4 KiB, of which tens of megabytes wait to be collected.
 */
function chunksOf(
  stream: ReadableStream<Uint8Array>,
  label: string,
): {
  next(): Promise<ReadableStreamReadResult<Uint8Array>>;
  cancel(): Promise<void>;
} {
  let reader: ReadableStreamBYOBReader;
  try {
    reader = stream.getReader({ mode: 'byob' });
  } catch {
    // Its chunks are what its owner gives.
    let plain: ReadableStreamDefaultReader<Uint8Array>;
    try {
      plain = stream.getReader();
    } catch (cause) {
      throw new VGGNetError('INVALID_ARGUMENT', `Expected a stream, got ${label}, which cannot be read`, { cause });
    }
    return { next: async () => plain.read(), cancel: async () => plain.cancel() };
  }
  let buffer = new ArrayBuffer(BUFFER_BYTES);
  return {
    async next() {
      const result = await reader.read(new Uint8Array(buffer));
      if (result.value) buffer = result.value.buffer as ArrayBuffer;
      return result as ReadableStreamReadResult<Uint8Array>;
    },
    cancel: () => reader.cancel(),
  };
}

/** What a value is in any realm: 'ArrayBuffer'. */
function tagOf(value: unknown): string {
  return Object.prototype.toString.call(value).slice(8, -1);
}

function isBytes(value: unknown): value is Uint8Array {
  return ArrayBuffer.isView(value) && tagOf(value) === 'Uint8Array';
}

function isStream(input: object): input is ReadableStream<Uint8Array> {
  return isObject(input) && 'getReader' in input && typeof input.getReader === 'function';
}

function isResponse(input: object): input is Response {
  return isObject(input) && 'body' in input && 'bodyUsed' in input && 'headers' in input && 'status' in input;
}

function isBlob(input: object): input is Blob {
  return isObject(input) && 'size' in input && 'slice' in input && 'arrayBuffer' in input;
}

function isObject(input: unknown): input is object {
  return typeof input === 'object' && input !== null;
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (typeof value !== 'object') return typeof value;
  const name = value.constructor?.name ?? 'an object';
  return 'pipe' in value ? `${name} (a Node stream: pass Readable.toWeb(stream))` : name;
}
