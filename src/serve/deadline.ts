import { abortable } from '../abort.js';
import { RequestError } from './failure.js';

/** The reason of a signal that fired since the request took too long. */
const TIMEOUT = Symbol('timeout');

/**
 * Does a request's work with a signal that fires when it has taken too long or its client has gone, and throws then,
 * whatever the work does.
 * @throws RequestError 504; VGGNetError `ABORTED`; and as the work does
 */
export async function withDeadline<T>(
  ms: number,
  client: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  // Not AbortSignal.timeout, whose timer holds what belongs to the request until it fires.
  const controller = new AbortController();
  const { signal } = controller;
  const timer = setTimeout(() => controller.abort(TIMEOUT), ms);
  const leave = (): void => controller.abort(client.reason);
  client.addEventListener('abort', leave);
  if (client.aborted) leave();
  try {
    return await abortable(work(signal), signal);
  } catch (error) {
    if (signal.reason !== TIMEOUT) throw error;
    throw new RequestError(504, 'TIMEOUT', `The request took longer than ${ms} ms`);
  } finally {
    clearTimeout(timer);
    client.removeEventListener('abort', leave);
  }
}
