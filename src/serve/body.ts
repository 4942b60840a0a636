import { abortable } from '../abort.js';
import { messageOf, throwIfAborted, VGGNetError } from '../errors.js';
import type { Lease } from './budget.js';
import { LATER, quote, RequestError } from './failure.js';
import { chunksOf, type Incoming } from './incoming.js';

export interface BodyLimits {
  /** Of a body, after it was inflated. */
  readonly maxBodyBytes: number;
  /** Bytes a second that must come; a client may fall behind by `stallTimeout`. */
  readonly minBodyRate: number;
  /** How long nothing may come, in ms. */
  readonly stallTimeout: number;
}

type Bytes = Uint8Array<ArrayBuffer>;

/** Content codings that are read, by the names of `DecompressionStream`. */
const CODINGS: Readonly<Record<string, 'gzip' | 'deflate'>> = { gzip: 'gzip', 'x-gzip': 'gzip', deflate: 'deflate' };

/**
 * The length that a request's head declares; undefined for a body in chunks.
 * @throws RequestError 413
 */
export function declaredLength({ headers }: Incoming, { maxBodyBytes }: BodyLimits): number | undefined {
  const text = headers.get('content-length');
  if (text === null || !/^\d+$/.test(text)) return undefined;
  const length = Number(text);
  if (length > maxBodyBytes) throw tooLarge(maxBodyBytes);
  return length;
}

/**
 * Reads a request's body into one buffer. What came is counted by the lease, inflated bytes too.
 * @throws RequestError 408 if it comes too slowly; 413 if it is too large; 415 for another coding than gzip and deflate; 400 if
 * it cannot be inflated; 503 if all bodies together are too large. VGGNetError `ABORTED` if the signal fires or the client
 * goes away
 */
export async function readBody(
  incoming: Incoming,
  limits: BodyLimits,
  lease: Lease,
  signal: AbortSignal,
): Promise<Bytes> {
  const coding = codingOf(incoming);
  const declared = declaredLength(incoming, limits);
  if (incoming.body === null) return new Uint8Array(0);
  const pace = new Pace(limits, signal);
  const source = chunksOf(incoming.body);
  const raw = paced(source, pace);
  const chunks = coding === undefined ? raw : inflated(raw, coding);
  const body = new Collected(coding === undefined ? declared : undefined, limits.maxBodyBytes, lease);
  try {
    for (;;) {
      const { done, value } = await chunks.next();
      if (done) return body.bytes();
      body.add(value);
    }
  } finally {
    pace.stop();
    // Not awaited: who does not send does not answer either. First the source, which a decompressor would hold on to.
    void source.return?.().catch(() => {});
    if (chunks !== raw) void chunks.return?.().catch(() => {});
  }
}

function codingOf({ headers }: Incoming): 'gzip' | 'deflate' | undefined {
  const name = headers.get('content-encoding')?.trim().toLowerCase() ?? 'identity';
  if (name === 'identity' || name === '') return undefined;
  const coding = CODINGS[name];
  if (coding !== undefined && typeof DecompressionStream === 'function') return coding;
  throw new RequestError(
    415,
    'UNSUPPORTED_ENCODING',
    `Expected a body as it is, or compressed by gzip or deflate, got Content-Encoding ${quote(name)}`,
    { 'Accept-Encoding': 'gzip, deflate' },
  );
}

/** Fires a signal when a body comes too slowly, and with the signal that it is given. */
class Pace {
  readonly signal: AbortSignal;
  readonly #rate: number;
  readonly #stall: number;
  readonly #controller = new AbortController();
  readonly #outer: AbortSignal;
  readonly #leave = (): void => this.#controller.abort(this.#outer.reason);
  #deadline: number;
  #timer: ReturnType<typeof setTimeout>;

  constructor({ minBodyRate, stallTimeout }: BodyLimits, outer: AbortSignal) {
    this.signal = this.#controller.signal;
    this.#rate = minBodyRate / 1000;
    this.#stall = stallTimeout;
    this.#outer = outer;
    this.#deadline = performance.now() + stallTimeout;
    this.#timer = setTimeout(this.#check, stallTimeout);
    outer.addEventListener('abort', this.#leave, { once: true });
    if (outer.aborted) this.#leave();
  }

  /** Each byte gives its share of a second, and no store of time is larger than the stall that is allowed. */
  came(bytes: number): void {
    this.#deadline = Math.min(this.#deadline + bytes / this.#rate, performance.now() + this.#stall);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#outer.removeEventListener('abort', this.#leave);
  }

  readonly #check = (): void => {
    const left = this.#deadline - performance.now();
    if (left > 0) this.#timer = setTimeout(this.#check, left);
    else this.#controller.abort(SLOW);
  };
}

const SLOW = Symbol('slow');

function paced(chunks: AsyncIterator<Uint8Array>, pace: Pace): AsyncIterator<Uint8Array> {
  return {
    async next() {
      try {
        const next = await abortable(chunks.next(), pace.signal);
        if (!next.done) pace.came(next.value.length);
        return next;
      } catch (error) {
        if (pace.signal.reason === SLOW) {
          throw new RequestError(408, 'BODY_TOO_SLOW', 'The body came too slowly', { Connection: 'close' });
        }
        throwIfAborted(pace.signal);
        // The connection broke.
        throw new VGGNetError('ABORTED', `The body cannot be read: ${messageOf(error)}`, { cause: error });
      }
    },
  };
}

function inflated(chunks: AsyncIterator<Uint8Array>, coding: 'gzip' | 'deflate'): AsyncIterator<Uint8Array> {
  let failed: unknown;
  const raw = new ReadableStream<Bytes>(
    {
      async pull(controller) {
        try {
          const { done, value } = await chunks.next();
          if (done) controller.close();
          else controller.enqueue(value as Bytes);
        } catch (error) {
          failed = error;
          controller.error(error);
        }
      },
    },
    { highWaterMark: 0 },
  );
  const reader = chunksOf(raw.pipeThrough(new DecompressionStream(coding)));
  return {
    async next() {
      try {
        return await reader.next();
      } catch (error) {
        throw failed ?? new RequestError(400, 'INVALID_BODY', `The body is not ${coding}: ${quote(messageOf(error))}`);
      }
    },
    async return() {
      await reader.return?.();
      return { done: true, value: undefined };
    },
  };
}

const FIRST_BYTES = 2 ** 16;

/** Chunks put together in one buffer, which is there at once where the length is known. */
class Collected {
  readonly #max: number;
  readonly #lease: Lease;
  #buffer: Bytes;
  #length = 0;

  constructor(length: number | undefined, max: number, lease: Lease) {
    this.#max = max;
    this.#lease = lease;
    this.#buffer = new Uint8Array(length ?? 0);
  }

  add(chunk: Uint8Array): void {
    const length = this.#length + chunk.length;
    if (length > this.#max) throw tooLarge(this.#max);
    if (length > this.#buffer.length) {
      const capacity = Math.min(Math.max(2 * this.#buffer.length, length, FIRST_BYTES), this.#max);
      if (!this.#lease.growTo(capacity)) throw bodiesFull();
      const buffer = new Uint8Array(capacity);
      buffer.set(this.#buffer.subarray(0, this.#length));
      this.#buffer = buffer;
    }
    this.#buffer.set(chunk, this.#length);
    this.#length = length;
  }

  bytes(): Bytes {
    return this.#buffer.subarray(0, this.#length);
  }
}

function tooLarge(max: number): RequestError {
  return new RequestError(413, 'BODY_TOO_LARGE', `A body may have at most ${max} bytes`);
}

export function bodiesFull(): RequestError {
  return new RequestError(503, 'OVERLOADED', 'The requests in progress hold all the memory that they may', LATER);
}
