import { VGGNetError } from '../errors.js';
import type { Origin } from './sink.js';

/*
 * What a server's answer means for a download: HTTP semantics (RFC 9110), sections 8.8 (validators), 13.1.5 (If-Range)
 * and 14 (ranges).
 */

/** A failure that another try may mend. */
export class Passing extends Error {
  /** Milliseconds that the server asks to be left alone. */
  readonly retryAfter: number | undefined;

  constructor(message: string, options: { cause?: unknown; retryAfter?: number | undefined } = {}) {
    super(message, options);
    this.retryAfter = options.retryAfter;
  }
}

/** What to do with an answer: read its body from a position on, or nothing, for all bytes are here. */
export type Answer = { readonly from: number; readonly origin: Origin } | 'complete' | 'start over';

const PASSING_STATUS = new Set([408, 425, 429, 500, 502, 503, 504]);

/**
 * Reads the head of an answer to a request for the bytes from `position` on of the version `origin`.
 * @throws VGGNetError `IO` for an answer that no other try will mend; Passing
 */
export function readAnswer(response: Response, position: number, origin: Origin | undefined, label: string): Answer {
  const { status, headers } = response;
  const range = parseContentRange(headers.get('content-range'));
  if (status === 416 && position > 0) return range?.total === position ? 'complete' : 'start over';
  if (!response.ok) {
    const message = `HTTP ${status} ${response.statusText}`.trimEnd();
    if (PASSING_STATUS.has(status)) throw new Passing(message, { retryAfter: retryAfterOf(headers) });
    throw new VGGNetError('IO', `${label}: ${message}`);
  }
  if (/^text\/html\b/i.test(headers.get('content-type') ?? '')) {
    throw new VGGNetError('IO', `${label}: expected a file of weights, got a web page (${status}, text/html)`);
  }
  const version = originOf(response);
  if (status !== 206) return { from: 0, origin: version };
  // A part that was not asked for, or of another version of the file: joined to what is here it would spoil it.
  if (position === 0 || range?.start !== position || !isSameVersion(origin, version)) return 'start over';
  return { from: position, origin: { ...version, total: version.total ?? origin?.total } };
}

/** The headers that ask for the rest of a file, if it is still the version `origin`. */
export function rangeHeaders(
  position: number,
  origin: Origin | undefined,
  conditional: boolean,
): Record<string, string> {
  // Compressed bytes could not be counted.
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (position > 0) {
    headers.range = `bytes=${position}-`;
    const validator = validatorOf(origin);
    if (conditional && validator !== undefined) headers['if-range'] = validator;
  }
  return headers;
}

/** What tells a version from all others, if the server gave such a thing: a weak entity tag does not. */
export function validatorOf(origin: Origin | undefined): string | undefined {
  return origin?.etag ?? origin?.lastModified;
}

function originOf({ status, headers }: Response): Origin {
  // The length and the tag are then those of the compressed bytes.
  if (headers.get('content-encoding') && headers.get('content-encoding') !== 'identity') return {};
  const etag = headers.get('etag') ?? undefined;
  const total =
    status === 206 ? parseContentRange(headers.get('content-range'))?.total : parseCount(headers.get('content-length'));
  return {
    etag: etag?.startsWith('W/') ? undefined : etag,
    lastModified: headers.get('last-modified') ?? undefined,
    total,
  };
}

function isSameVersion(a: Origin | undefined, b: Origin): boolean {
  if (!a) return false;
  if (a.total !== undefined && b.total !== undefined && a.total !== b.total) return false;
  if (a.etag !== undefined || b.etag !== undefined) return a.etag === b.etag;
  return a.lastModified !== undefined && a.lastModified === b.lastModified;
}

function parseContentRange(text: string | null): { start: number | undefined; total: number | undefined } | undefined {
  const match = /^bytes (?:(\d+)-\d+|\*)\/(\d+|\*)$/i.exec(text ?? '');
  return match ? { start: parseCount(match[1]), total: parseCount(match[2]) } : undefined;
}

function parseCount(text: string | null | undefined): number | undefined {
  const count = /^\d+$/.test(text ?? '') ? Number(text) : Number.NaN;
  return Number.isSafeInteger(count) ? count : undefined;
}

/** Seconds or a date, as milliseconds from now. */
function retryAfterOf(headers: Headers): number | undefined {
  const text = headers.get('retry-after');
  if (text === null) return undefined;
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return ms > 0 ? ms : undefined;
}
