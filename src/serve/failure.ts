import { VGGNetError, type VGGNetErrorCode } from '../errors.js';
import { QueueFullError } from './batcher.js';

/** A request that cannot be answered, and the HTTP status that says so. */
export class RequestError extends Error {
  readonly status: number;
  readonly code: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, code: string, message: string, headers: Readonly<Record<string, string>> = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.headers = headers;
  }
}

/** The most characters of a request that an error repeats, and of an error in all. */
const MAX_QUOTE = 100;
const MAX_MESSAGE = 500;

/** A value of a request as an error repeats it: its JSON, cut. */
export function quote(value: unknown): string {
  if (typeof value === 'string') return JSON.stringify(clip(value, MAX_QUOTE));
  // A list is written no further than it is shown.
  if (Array.isArray(value)) {
    const shown = value.slice(0, 8).map((item) => (typeof item === 'object' && item !== null ? '…' : quote(item)));
    return clip(`[${shown.join(',')}${value.length > 8 ? ',…' : ''}]`, MAX_QUOTE);
  }
  return typeof value === 'object' && value !== null ? 'an object' : String(value);
}

export function clip(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length)}…` : text;
}

/** 499: the client has gone, as nginx logs it; nobody sees the answer. */
const STATUS: Partial<Record<VGGNetErrorCode, number>> = {
  INVALID_ARGUMENT: 400,
  INVALID_SHAPE: 400,
  INVALID_DTYPE: 400,
  UNKNOWN_LAYER: 400,
  INVALID_IMAGE: 400,
  IMAGE_TOO_LARGE: 413,
  MISSING_PEER: 501,
  ABORTED: 499,
  OUT_OF_MEMORY: 503,
  DISPOSED: 503,
  WORKER_CRASHED: 503,
  DEVICE_LOST: 503,
};

/** When to come back, in seconds. */
export const LATER = { 'Retry-After': '1' };

export interface Failure {
  readonly status: number;
  readonly code: string;
  readonly message: string;
  readonly headers: Record<string, string>;
}

/** What went wrong as an answer. The text of an error that was not foreseen stays here. */
export function answerTo(error: unknown): Failure {
  const failure = failureOf(error);
  return { ...failure, message: clip(failure.message, MAX_MESSAGE) };
}

function failureOf(error: unknown): Failure {
  if (error instanceof RequestError) {
    const { status, code, message, headers } = error;
    return { status, code, message, headers: { ...headers } };
  }
  if (error instanceof QueueFullError) {
    return { status: 503, code: 'QUEUE_FULL', message: error.message, headers: LATER };
  }
  if (error instanceof VGGNetError) {
    const status = STATUS[error.code] ?? 500;
    return { status, code: error.code, message: error.message, headers: status === 503 ? LATER : {} };
  }
  return { status: 500, code: 'UNEXPECTED', message: 'The server failed', headers: {} };
}
