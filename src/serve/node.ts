import { endOf } from './answer.js';
import type { RequestHandler } from './handler.js';
import type { Incoming } from './incoming.js';

/*
 * What is used of Node's requests and responses. Their own types would have everyone who uses this module install Node's.
 */

// biome-ignore lint/suspicious/noExplicitAny: as Node has it
type Listener = (...args: any[]) => void;

interface Emitter {
  on(event: string, listener: Listener): unknown;
  once(event: string, listener: Listener): unknown;
  off(event: string, listener: Listener): unknown;
  destroy(error?: Error): unknown;
}

/** An `IncomingMessage` of `node:http`. */
export interface NodeRequest extends Emitter {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  readonly headers: { readonly expect?: string | undefined };
  readonly rawHeaders: readonly string[];
  readonly complete: boolean;
  pause(): unknown;
  resume(): unknown;
}

/** A `ServerResponse` of `node:http`. */
export interface NodeResponse extends Emitter {
  statusCode: number;
  readonly destroyed: boolean;
  readonly headersSent: boolean;
  readonly writableFinished: boolean;
  setHeader(name: string, value: string | number | readonly string[]): unknown;
  flushHeaders(): void;
  writeContinue(): void;
  write(chunk: Uint8Array): boolean;
  end(text?: string): unknown;
}

export interface NodeListenerOptions {
  /** How long a client may take to read an answer, and to end the body of a request that was refused, in ms. Default 60,000. */
  readonly answerTimeout?: number | undefined;
}

/**
 * A handler as a listener of `node:http`, and so for Express, Fastify and whatever else is on it: with the same limits and
 * metrics. The body must not have been read before.
 */
export function toNodeListener(
  handler: RequestHandler,
  options: NodeListenerOptions = {},
): (request: NodeRequest, response: NodeResponse) => void {
  const { answerTimeout = 60_000 } = options;
  return (request, response) => {
    answer(handler, request, response, answerTimeout).catch((error: unknown) => {
      // The answer broke off: what the client has of it must not look whole.
      response.destroy(error as Error);
    });
  };
}

/** How long a client that was refused may go on sending its body, in ms: if it is cut before, it may miss the answer. */
const LINGER = 5000;

async function answer(
  handler: RequestHandler,
  request: NodeRequest,
  response: NodeResponse,
  answerTimeout: number,
): Promise<void> {
  // Broken connections are told by 'close'.
  response.on('error', () => {});
  request.on('error', () => {});
  const client = new AbortController();
  const closed = new Promise<void>((resolve) => {
    response.once('close', () => {
      if (!response.writableFinished) client.abort();
      resolve();
    });
  });
  if (hostCount(request) > 1) {
    response.statusCode = 400;
    response.setHeader('Content-Type', 'application/json');
    response.setHeader('Connection', 'close');
    response.end(JSON.stringify({ error: 'Expected one Host header, got several', code: 'INVALID_REQUEST' }));
    return;
  }
  const incoming = new NodeIncoming(request, response, client.signal, closed);
  const answered = await handler.fetch(incoming as unknown as Request);
  const late = setTimeout(() => response.destroy(), answerTimeout);
  closed.finally(() => clearTimeout(late));
  await send(answered, request, response);
}

async function send(answered: Response, request: NodeRequest, response: NodeResponse): Promise<void> {
  if (response.destroyed) {
    await answered.body?.cancel();
    return;
  }
  for (const [name, value] of answered.headers) {
    if (name !== 'set-cookie') response.setHeader(name, value);
  }
  const cookies = answered.headers.getSetCookie();
  if (cookies.length > 0) response.setHeader('Set-Cookie', cookies);
  response.statusCode = answered.status;
  if (answered.body && endOf(answered.body)) {
    await pipe(answered.body, response);
  } else {
    const bytes = new Uint8Array(await answered.arrayBuffer());
    if (answered.body) response.setHeader('Content-Length', bytes.length);
    else response.flushHeaders();
    response.write(bytes);
  }
  if (!request.complete) await linger(request);
  response.end();
}

/** Writes a stream as fast as it is read. */
async function pipe(body: ReadableStream<Uint8Array>, response: NodeResponse): Promise<void> {
  const reader = body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      if (!response.write(value)) await drained(response);
      if (response.destroyed) return;
    }
  } finally {
    void reader.cancel().catch(() => {});
  }
}

function drained(response: NodeResponse): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      response.off('drain', done);
      response.off('close', done);
      resolve();
    };
    response.on('drain', done);
    response.on('close', done);
    if (response.destroyed) done();
  });
}

/** Lets go of what still comes of a body that was not read. */
function linger(request: NodeRequest): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      request.destroy();
      resolve();
    }, LINGER);
    const done = (): void => {
      clearTimeout(timer);
      resolve();
    };
    request.once('end', done);
    request.once('close', done);
    request.resume();
  });
}

function hostCount({ rawHeaders }: NodeRequest): number {
  let count = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    if (rawHeaders[i]?.length === 4 && rawHeaders[i]?.toLowerCase() === 'host') count++;
  }
  return count;
}

/** A request of Node's, as the routes see it. */
class NodeIncoming implements Incoming {
  readonly method: string;
  readonly url: string;
  readonly signal: AbortSignal;
  readonly closed: Promise<void>;
  readonly #request: NodeRequest;
  readonly #response: NodeResponse;
  #headers: Headers | undefined;

  constructor(request: NodeRequest, response: NodeResponse, signal: AbortSignal, closed: Promise<void>) {
    this.#request = request;
    this.#response = response;
    this.method = request.method ?? 'GET';
    // Only the path counts.
    const { url = '/' } = request;
    this.url = url.startsWith('/') ? `http://localhost${url}` : absolute(url);
    this.signal = signal;
    this.closed = closed;
  }

  get headers(): Headers {
    if (this.#headers) return this.#headers;
    const headers = new Headers();
    const { rawHeaders } = this.#request;
    for (let i = 0; i < rawHeaders.length; i += 2) {
      headers.append(rawHeaders[i] as string, rawHeaders[i + 1] as string);
    }
    this.#headers = headers;
    return headers;
  }

  get body(): AsyncIterable<Uint8Array> | null {
    if (this.method === 'GET' || this.method === 'HEAD') return null;
    if (this.#request.headers.expect !== undefined && !this.#response.headersSent) this.#response.writeContinue();
    return { [Symbol.asyncIterator]: () => new BodyReader(this.#request) };
  }
}

/**
 * The chunks of a body. A reader that stops early leaves the connection to the answer, which the request's own iterator
 * would destroy.
 */
class BodyReader implements AsyncIterator<Uint8Array> {
  readonly #request: NodeRequest;
  readonly #chunks: Uint8Array[] = [];
  #ended = false;
  #error: Error | undefined;
  #wake: () => void = () => {};

  constructor(request: NodeRequest) {
    this.#request = request;
    for (const [event, listener] of this.#listeners()) request.on(event, listener);
  }

  async next(): Promise<IteratorResult<Uint8Array, undefined>> {
    for (;;) {
      const chunk = this.#chunks.shift();
      if (chunk) return { done: false, value: chunk };
      if (this.#error) throw this.#error;
      if (this.#ended) return { done: true, value: undefined };
      const woken = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#request.resume();
      await woken;
    }
  }

  async return(): Promise<IteratorResult<Uint8Array, undefined>> {
    for (const [event, listener] of this.#listeners()) this.#request.off(event, listener);
    this.#chunks.length = 0;
    return { done: true, value: undefined };
  }

  #listeners(): [string, Listener][] {
    return [
      ['data', this.#onData],
      ['end', this.#onEnd],
      ['error', this.#onError],
      ['close', this.#onClose],
    ];
  }

  readonly #onData = (chunk: Uint8Array): void => {
    this.#chunks.push(chunk);
    this.#request.pause();
    this.#wake();
  };

  readonly #onEnd = (): void => {
    this.#ended = true;
    this.#wake();
  };

  readonly #onError = (error: Error): void => {
    this.#error = error;
    this.#wake();
  };

  readonly #onClose = (): void => {
    if (!this.#ended) this.#onError(new Error('The connection was closed'));
  };
}

function absolute(url: string): string {
  return URL.canParse(url) ? url : 'http://localhost/';
}
