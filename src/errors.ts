/** What went wrong, for a program to branch on. The message says it for a person. */
export type VGGNetErrorCode =
  /** An argument or option of the wrong type or out of its range. */
  | 'INVALID_ARGUMENT'
  /** A tensor whose rank, size or data length does not fit. */
  | 'INVALID_SHAPE'
  /** Data that is not float32, or a weight of a dtype that is not read. */
  | 'INVALID_DTYPE'
  /** A model name that is not known. */
  | 'UNKNOWN_MODEL'
  /** A list of layers that makes no network. */
  | 'INVALID_ARCHITECTURE'
  /** A layer name that this network does not have. */
  | 'UNKNOWN_LAYER'
  /** A weights file that breaks its format, or ends early. */
  | 'INVALID_WEIGHTS_FILE'
  /** A sound weights file that belongs to another network. */
  | 'WEIGHTS_MISMATCH'
  /** Bytes that are not an image that can be read. */
  | 'INVALID_IMAGE'
  /** An image over the stated limits. */
  | 'IMAGE_TOO_LARGE'
  /** An optional package that this call needs is not installed. */
  | 'MISSING_PEER'
  /** The device asked for is not here. */
  | 'BACKEND_UNAVAILABLE'
  /** The memory needed cannot be had. */
  | 'OUT_OF_MEMORY'
  /** A file or URL could not be read or written. */
  | 'IO'
  /** A downloaded file whose SHA-256 is not the published one. It was deleted. */
  | 'CHECKSUM_MISMATCH'
  /** Stopped by the caller's AbortSignal; `cause` is the signal's reason. */
  | 'ABORTED'
  /** Called after `dispose()`. */
  | 'DISPOSED'
  /** A worker that ran the model ended, or a kernel failed in it. */
  | 'WORKER_CRASHED'
  /** The GPU device was lost: by the driver, by its owner, or as the GPU went away. */
  | 'DEVICE_LOST'
  /** The GPU refused a piece of work; `message` has its words. */
  | 'GPU_ERROR';

/** Every error that this library throws on purpose. */
export class VGGNetError extends Error {
  readonly code: VGGNetErrorCode;

  constructor(code: VGGNetErrorCode, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.code = code;
    // The web's name for it, so that `error.name === 'AbortError'` holds as it does for fetch.
    this.name = code === 'ABORTED' ? 'AbortError' : 'VGGNetError';
  }
}

/** The message of whatever was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** Throws `ABORTED` if the signal has fired, and `INVALID_ARGUMENT` if it is none. */
export function throwIfAborted(signal: AbortSignal | undefined): void {
  if (signal && typeof signal.addEventListener !== 'function') {
    throw new VGGNetError('INVALID_ARGUMENT', `signal must be an AbortSignal, got ${typeof signal}`);
  }
  if (signal?.aborted) {
    throw abortError(signal);
  }
}

/** The error of a call to a model after `dispose()`. */
export function disposedError(): VGGNetError {
  return new VGGNetError('DISPOSED', 'This model has been disposed; create it again');
}

/** What a call stopped by this signal throws. */
export function abortError(signal: AbortSignal | undefined): VGGNetError {
  return new VGGNetError('ABORTED', 'Stopped by the AbortSignal', { cause: signal?.reason });
}
