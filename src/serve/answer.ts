import { pause } from '../platform/event-loop.js';
import type { Lease } from './budget.js';

/*
 * Answers that are made while they are read: a client that does not read makes the server compute and hold nothing more.
 */

/** Bytes of an answer that is made at once. */
export const SMALL_ANSWER: number = 2 ** 16;

export interface AnswerLimits {
  /** How long a client may take to read its answer, in ms. */
  readonly answerTimeout: number;
  /** How long it may read nothing, in ms. */
  readonly stallTimeout: number;
}

/** The streams of this file, and when each has ended: read to its end, left, or too slow. */
const ends = new WeakMap<ReadableStream, Promise<void>>();

/** When an answer's body has ended, if it is made while it is read. */
export function endOf(body: ReadableStream | null): Promise<void> | undefined {
  return body === null ? undefined : ends.get(body);
}

/**
 * A body that is made part by part as it is read, with a turn for other work between parts.
 * @param lease given back when it has ended
 */
export function streamed(
  parts: Iterator<Uint8Array>,
  { answerTimeout, stallTimeout }: AnswerLimits,
  lease: Lease | undefined,
): ReadableStream<Uint8Array> {
  let over = false;
  let tellEnd: () => void = () => {};
  let stalled: ReturnType<typeof setTimeout> | undefined;
  const finish = (): void => {
    over = true;
    clearTimeout(stalled);
    clearTimeout(late);
    lease?.release();
    tellEnd();
  };
  let controller: ReadableStreamDefaultController<Uint8Array> | undefined;
  const cut = (): void => {
    controller?.error(new Error('The answer was read too slowly'));
    finish();
  };
  const late = setTimeout(cut, answerTimeout);
  const expectRead = (): void => {
    clearTimeout(stalled);
    stalled = setTimeout(cut, stallTimeout);
  };
  const stream = new ReadableStream<Uint8Array>(
    {
      start(its) {
        controller = its;
        expectRead();
      },
      async pull(its) {
        await pause();
        if (over) return;
        const { done, value } = parts.next();
        if (done) {
          finish();
          its.close();
        } else {
          its.enqueue(value);
          expectRead();
        }
      },
      cancel: finish,
    },
    { highWaterMark: 0 },
  );
  const ended = new Promise<void>((resolve) => {
    tellEnd = resolve;
  });
  ends.set(stream, ended);
  return stream;
}
