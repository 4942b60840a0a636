/**
 * A request as the routes see it: what they use of a `Request`. Node's is one too, without the cost of making a `Request`
 * of it.
 */
export interface Incoming {
  readonly method: string;
  readonly url: string;
  readonly headers: Headers;
  /** Read at most once. */
  readonly body: ReadableStream<Uint8Array> | AsyncIterable<Uint8Array> | null;
  /** Fires when the client goes away. */
  readonly signal: AbortSignal;
  /** Resolves when the answer was sent or its connection was closed; undefined where a runtime does not tell. */
  readonly closed?: Promise<void> | undefined;
}

/** The chunks of a body, one after another. */
export function chunksOf(body: NonNullable<Incoming['body']>): AsyncIterator<Uint8Array> {
  if (!(body instanceof ReadableStream)) return body[Symbol.asyncIterator]();
  const reader = body.getReader();
  return {
    async next() {
      const { done, value } = await reader.read();
      return done ? { done, value: undefined } : { done, value };
    },
    async return() {
      await reader.cancel().catch(() => {});
      return { done: true, value: undefined };
    },
  };
}

/** The media type of a request, in lower case and without parameters; '' if there is none. */
export function mediaType({ headers }: Incoming): string {
  return (headers.get('content-type') ?? '').split(';')[0]?.trim().toLowerCase() ?? '';
}
