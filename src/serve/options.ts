import { VGGNetError } from '../errors.js';
import type { RawImage } from '../image/raw-image.js';

/** Each limit's default and its reason: docs/serving.md. */
export interface ServeOptions {
  /** The model's name in `/v2/models/NAME`. Default: the configuration's. */
  readonly name?: string | undefined;
  /** Outputs that may be asked for besides `logits` and `probabilities`, as `features` names them. Default none. */
  readonly layers?: readonly string[] | undefined;
  /** Images in one forward at most. Default 8. */
  readonly maxBatch?: number | undefined;
  /** How long a request waits for others to share its forward, in ms. Default 5. */
  readonly maxDelay?: number | undefined;
  /** Images and tensors that may wait for a forward; more are answered by 503 with Retry-After. Default 64. */
  readonly maxQueue?: number | undefined;
  /** How long a request may take in all, in ms. Default 30,000. */
  readonly timeout?: number | undefined;
  /** The largest request body, in bytes; of a compressed one what it becomes. Default 16 MiB. */
  readonly maxBodyBytes?: number | undefined;
  /** Bytes that the bodies of all requests in progress may have together. Default 64 MiB. */
  readonly maxTotalBodyBytes?: number | undefined;
  /** POST requests in progress, from the head on. Default 256. */
  readonly maxRequests?: number | undefined;
  /** Bytes a second that a body must come with. Default 1,024. */
  readonly minBodyRate?: number | undefined;
  /** How long nothing of a body may come, and nothing of an answer be read, in ms. Default 10,000. */
  readonly stallTimeout?: number | undefined;
  /** How long a client may take to read its answer, in ms. Default 60,000. */
  readonly answerTimeout?: number | undefined;
  /** The most bytes of one answer's outputs, as JSON or binary. Default 32 MiB. */
  readonly maxOutputBytes?: number | undefined;
  /** Bytes that the outputs of all answers in progress may have together. Default 64 MiB. */
  readonly maxTotalOutputBytes?: number | undefined;
  /** Width times height of an image file at most. Default 25,000,000. */
  readonly maxPixels?: number | undefined;
  /** Bytes that all image files that are being decoded may become together. Default 128 MiB. */
  readonly maxDecodedBytes?: number | undefined;
  /** Height times width of an input tensor at most. Default 262,144. */
  readonly maxInputPixels?: number | undefined;
  /** Images in an input tensor at most. Default 4,096. */
  readonly maxImages?: number | undefined;
  /** A bearer token that every request but those for health must carry. */
  readonly token?: string | undefined;
  /**
   * Names in the Host header that are answered, besides addresses and names without a dot; `.example.org` for all under
   * one. Default: any name.
   */
  readonly allowedHosts?: readonly string[] | undefined;
  /** Origins that may call from a browser; '*' for all. Default none. */
  readonly cors?: string | readonly string[] | undefined;
  /** Told of errors that a client is only told about in general, for a log. Default `console.error`. */
  readonly onError?: ((error: unknown) => void) | undefined;
  /** Decodes an image file (JPEG, PNG, WebP or GIF), for runtimes that cannot: edge workers have no decoder. */
  readonly decode?: ((file: Uint8Array<ArrayBuffer>, signal: AbortSignal) => Promise<RawImage>) | undefined;
}

const MIB = 2 ** 20;
const LONGEST = 2 ** 31 - 1;

/** The options that are numbers, with their defaults. */
export interface Settings {
  readonly maxBatch: number;
  readonly maxDelay: number;
  readonly maxQueue: number;
  readonly timeout: number;
  readonly maxBodyBytes: number;
  readonly maxTotalBodyBytes: number;
  readonly maxRequests: number;
  readonly minBodyRate: number;
  readonly stallTimeout: number;
  readonly answerTimeout: number;
  readonly maxOutputBytes: number;
  readonly maxTotalOutputBytes: number;
  readonly maxPixels: number;
  readonly maxDecodedBytes: number;
  readonly maxInputPixels: number;
  readonly maxImages: number;
}

/** Each one's default, least and, if there is one, largest value. */
const NUMBERS: Readonly<Record<keyof Settings, readonly [standard: number, min: number, max?: number]>> = {
  maxBatch: [8, 1],
  maxDelay: [5, 0, LONGEST],
  maxQueue: [64, 1],
  timeout: [30_000, 1, LONGEST],
  maxBodyBytes: [16 * MIB, 1],
  maxTotalBodyBytes: [64 * MIB, 1],
  maxRequests: [256, 1],
  minBodyRate: [1024, 1],
  stallTimeout: [10_000, 1, LONGEST],
  answerTimeout: [60_000, 1, LONGEST],
  maxOutputBytes: [32 * MIB, 1],
  maxTotalOutputBytes: [64 * MIB, 1],
  maxPixels: [25_000_000, 1],
  maxDecodedBytes: [128 * MIB, 1],
  maxInputPixels: [2 ** 18, 1],
  maxImages: [4096, 1],
};

/** @throws VGGNetError `INVALID_ARGUMENT` */
export function settingsOf(options: ServeOptions): Settings {
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
  for (const name of ['layers', 'allowedHosts'] as const) {
    const list = options[name];
    if (list === undefined || (Array.isArray(list) && list.every((item) => typeof item === 'string' && item !== ''))) {
      continue;
    }
    throw new VGGNetError('INVALID_ARGUMENT', `${name} must be a list of names, got ${String(list)}`);
  }
  const names = Object.keys(NUMBERS) as (keyof Settings)[];
  const entries = names.map((name) => [name, numberOf(options, name)] as const);
  const settings = Object.fromEntries(entries) as unknown as Settings;
  return { ...settings, maxTotalBodyBytes: Math.max(settings.maxTotalBodyBytes, settings.maxBodyBytes) };
}

function numberOf(options: ServeOptions, name: keyof Settings): number {
  const [standard, min, max = Number.MAX_SAFE_INTEGER] = NUMBERS[name];
  const value = options[name] ?? standard;
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  const limits = `${min}${max < Number.MAX_SAFE_INTEGER ? ` and at most ${max}` : ''}`;
  throw new VGGNetError('INVALID_ARGUMENT', `${name} must be an integer of at least ${limits}, got ${String(value)}`);
}
