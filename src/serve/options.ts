import { VGGNetError } from '../errors.js';
import type { RawImage } from '../image/raw-image.js';

export interface ServeOptions {
  /** The model's name in `/v2/models/NAME`. Default: the configuration's. */
  readonly name?: string | undefined;
  /** Images in one forward at most. Default 8. */
  readonly maxBatch?: number | undefined;
  /** How long a request waits for others to share its forward, in ms. Default 5. */
  readonly maxDelay?: number | undefined;
  /** Requests that may wait for a forward; more are answered by 503 with Retry-After. Default 64. */
  readonly maxQueue?: number | undefined;
  /** How long a request may take in all, in ms. Default 30,000. */
  readonly timeout?: number | undefined;
  /** The largest request body, in bytes. Default 16 MiB. */
  readonly maxBodyBytes?: number | undefined;
  /** Width times height of an image at most. Default 25,000,000. */
  readonly maxPixels?: number | undefined;
  /** A bearer token that every request but those for health must carry. */
  readonly token?: string | undefined;
  /** Origins that may call from a browser; '*' for all. Default none. */
  readonly cors?: string | readonly string[] | undefined;
  /** Told of errors that a client is only told about in general, for a log. Default `console.error`. */
  readonly onError?: ((error: unknown) => void) | undefined;
  /** Decodes an image file (JPEG, PNG, WebP or GIF), for runtimes that cannot: edge workers have no decoder. */
  readonly decode?: ((file: Uint8Array<ArrayBuffer>, signal: AbortSignal) => Promise<RawImage>) | undefined;
}

export interface Settings {
  readonly maxBatch: number;
  readonly maxDelay: number;
  readonly maxQueue: number;
  readonly timeout: number;
  readonly maxBodyBytes: number;
  readonly maxPixels: number;
}

/** @throws VGGNetError `INVALID_ARGUMENT` */
export function settingsOf(options: ServeOptions): Settings {
  const integer = (name: keyof Settings, standard: number, min: number, max = Number.MAX_SAFE_INTEGER): number => {
    const value = options[name] ?? standard;
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw new VGGNetError(
      'INVALID_ARGUMENT',
      `${name} must be an integer of at least ${min}${max < Number.MAX_SAFE_INTEGER ? ` and at most ${max}` : ''}, got ${String(value)}`,
    );
  };
  const { token, cors } = options;
  if (token !== undefined && (typeof token !== 'string' || !/^[\w.~+/-]+=*$/.test(token))) {
    throw new VGGNetError('INVALID_ARGUMENT', 'token must be letters, digits and -._~+/ as RFC 6750 has them');
  }
  const origins = cors === undefined ? [] : typeof cors === 'string' ? [cors] : cors;
  for (const origin of origins) {
    if (typeof origin === 'string' && (origin === '*' || /^https?:\/\/[^/]+$/.test(origin))) continue;
    throw new VGGNetError(
      'INVALID_ARGUMENT',
      `cors must be '*' or origins such as https://example.org, got ${String(origin)}`,
    );
  }
  for (const name of ['decode', 'onError'] as const) {
    if (options[name] === undefined || typeof options[name] === 'function') continue;
    throw new VGGNetError('INVALID_ARGUMENT', `${name} must be a function, got ${typeof options[name]}`);
  }
  const longest = 2 ** 31 - 1;
  return {
    maxBatch: integer('maxBatch', 8, 1),
    maxDelay: integer('maxDelay', 5, 0, longest),
    maxQueue: integer('maxQueue', 64, 1),
    timeout: integer('timeout', 30_000, 1, longest),
    maxBodyBytes: integer('maxBodyBytes', 16 * 2 ** 20, 1),
    maxPixels: integer('maxPixels', 25_000_000, 1),
  };
}
