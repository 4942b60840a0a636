import { abortable } from '../abort.js';
import { throwIfAborted, VGGNetError } from '../errors.js';
import { reasonOf, userHeaders, withoutUser } from '../url.js';
import { type LoadProgress, ProgressMeter } from '../weights/bytes/progress.js';
import type { PretrainedFile } from './catalog.js';
import { Passing, rangeHeaders, readAnswer, validatorOf } from './response.js';
import { createSha256, type Sha256 } from './sha256.js';
import { MAX_BYTES, type Origin, type Sink } from './sink.js';

export interface DownloadOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
  /** Tries after a first one that failed; a try that brought a mebibyte is a first one again. Default 4. */
  readonly retries?: number | undefined;
  /** Milliseconds without bytes after which a try has failed. Default 30,000. */
  readonly stallTimeout?: number | undefined;
  /** Milliseconds before the first further try, twice as many before the next. Default 500. */
  readonly retryDelay?: number | undefined;
}

const RETRIES = 4;
const STALL_TIMEOUT_MS = 30_000;
const RETRY_DELAY_MS = 500;
const MAX_DELAY_MS = 15_000;
/** A server that asks for a longer pause has failed. */
const MAX_RETRY_AFTER_MS = 60_000;
/** A try that brought as much was no failure, only cut. */
const PROGRESS_BYTES = 2 ** 20;
/** So much, at least, must come in the time of the stall timeout: a trickle would take for ever. */
const TRICKLE_BYTES = 2 ** 10;

/**
 * Downloads a file into a sink, goes on where it was cut, and checks the SHA-256 of all bytes before the sink is
 * committed. After a cut or an abort the sink keeps what came; after any other error it has nothing left.
 * @throws VGGNetError `CHECKSUM_MISMATCH`, `IO`, `ABORTED`
 */
export async function download(
  file: PretrainedFile,
  url: URL,
  sink: Sink,
  options: DownloadOptions = {},
): Promise<void> {
  const transfer = new Transfer(file, url, sink, options);
  try {
    await sink.commit(await transfer.run());
  } catch (error) {
    await (transfer.interrupted ? sink.keep() : sink.discard());
    throw error;
  }
}

class Transfer {
  /** True if it ended by a cut or an abort, so that what came is good. */
  interrupted = false;
  readonly #file: PretrainedFile;
  readonly #url: URL;
  readonly #label: string;
  readonly #sink: Sink;
  readonly #options: DownloadOptions;
  #hash: Sha256 = createSha256();
  #meter: ProgressMeter | undefined;
  #position = 0;
  #origin: Origin | undefined;
  /** Whether it has bytes of an earlier download. */
  #resumed = false;

  constructor(file: PretrainedFile, url: URL, sink: Sink, options: DownloadOptions) {
    this.#file = file;
    this.#url = url;
    // Without the query, which may hold a key.
    this.#label = `${url.origin}${url.pathname}`;
    this.#sink = sink;
    this.#options = options;
  }

  /** Gives the digest. */
  async run(): Promise<string> {
    await this.#resume();
    await this.#transfer();
    try {
      return this.#check();
    } catch (error) {
      if (!this.#resumed) throw error;
      // The bytes that were kept are not what the server gave: once more, from the first.
      this.#position = 0;
      this.#origin = undefined;
      await this.#transfer();
      return this.#check();
    }
  }

  /** Brings the bytes from the position on, in as many tries as are allowed. */
  async #transfer(): Promise<void> {
    const { signal, retries = RETRIES } = this.#options;
    let furthest = this.#position;
    for (let failures = 0; ; ) {
      try {
        await this.#attempt();
        break;
      } catch (error) {
        if (signal?.aborted) {
          this.interrupted = true;
          throwIfAborted(signal);
        }
        if (!(error instanceof Passing)) throw error;
        // New ground only: a server that always begins again would be asked for ever.
        failures = this.#position >= furthest + PROGRESS_BYTES ? 1 : failures + 1;
        furthest = Math.max(furthest, this.#position);
        if (failures > retries || (error.retryAfter ?? 0) > MAX_RETRY_AFTER_MS) {
          this.interrupted = true;
          throw this.#gaveUp(error, failures);
        }
        await this.#pause(failures, error.retryAfter);
      }
    }
    await this.#meter?.finish();
  }

  /** Takes up a download that was cut before this one, if the server said how to know its version again. */
  async #resume(): Promise<void> {
    const { kept, origin } = this.#sink;
    if (kept === 0 || kept > this.#limit() || validatorOf(origin) === undefined) return;
    await this.#sink.replay((bytes) => this.#hash.update(bytes));
    this.#position = kept;
    this.#origin = origin;
    this.#resumed = true;
    this.#startMeter();
  }

  /** Bytes that the file has at most: what its record says goes before what a server says. */
  #limit(): number {
    return this.#file.size ?? Math.min(this.#origin?.total ?? MAX_BYTES, MAX_BYTES);
  }

  async #attempt(): Promise<void> {
    const stop = new AbortController();
    const { signal } = this.#options;
    const all = signal ? AbortSignal.any([signal, stop.signal]) : stop.signal;
    const watch = new Watch(this.#options.stallTimeout ?? STALL_TIMEOUT_MS);
    try {
      const range = rangeHeaders(this.#position, this.#origin, !isForeign(this.#url));
      const headers = { ...range, ...userHeaders(this.#url) };
      const url = withoutUser(this.#url);
      const response = await watch.wait(fetch(url, { signal: all, headers, ...pastHttpCache() }));
      const answer = readAnswer(response, this.#position, this.#origin, this.#label);
      if (answer === 'complete') return;
      if (answer === 'start over') {
        this.#position = 0;
        this.#origin = undefined;
        throw new Passing('the file there is not the one that was begun');
      }
      this.#origin = answer.origin;
      this.#checkLength(answer.origin.total);
      if (answer.from === 0) await this.#startOver(answer.origin);
      await this.#read(response, watch);
    } catch (error) {
      if (error instanceof VGGNetError || error instanceof Passing) throw error;
      // All of it arrived: how the connection ended is of no matter.
      if (this.#position > 0 && this.#position === this.#origin?.total) return;
      throw new Passing(reasonOf(error), { cause: error });
    } finally {
      stop.abort();
    }
  }

  async #startOver(origin: Origin): Promise<void> {
    await this.#sink.begin(origin);
    this.#resumed = false;
    this.#position = 0;
    this.#hash = createSha256();
    this.#startMeter();
  }

  #startMeter(): void {
    const { onProgress } = this.#options;
    this.#meter = new ProgressMeter(onProgress, this.#file.size ?? this.#origin?.total);
    if (this.#position > 0) this.#meter.advance(this.#position);
  }

  async #read(response: Response, watch: Watch): Promise<void> {
    const limit = this.#limit();
    const reader = response.body?.getReader();
    while (reader) {
      const { done, value } = await watch.wait(reader.read());
      if (done) break;
      watch.came(value.length);
      if (this.#position === 0) this.#refuseText(value);
      if (this.#position + value.length > limit) {
        throw new VGGNetError('IO', `${this.#label}: goes on after byte ${limit}, where it should end`);
      }
      await this.#sink.write(value);
      this.#hash.update(value);
      this.#position += value.length;
      this.#meter?.advance(value.length);
    }
    if (this.#position < (this.#origin?.total ?? 0)) {
      throw new Passing(`it ended at byte ${this.#position} of ${this.#origin?.total}`);
    }
  }

  /** Neither a zip archive, a pickle nor a safetensors file begins as a web page does. */
  #refuseText(first: Uint8Array): void {
    const text = String.fromCharCode(...first.subarray(0, 64));
    if (/^(?:\xef\xbb\xbf)?\s*<[!?a-z]/i.test(text)) {
      throw new VGGNetError('IO', `${this.#label}: expected a file of weights, got a web page`);
    }
  }

  #checkLength(total: number | undefined): void {
    const { size } = this.#file;
    if (size === undefined || total === undefined || total === size) return;
    throw new VGGNetError('IO', `${this.#label}: expected ${size} bytes, got a file of ${total}`);
  }

  #check(): string {
    const { name, size, sha256 } = this.#file;
    if (size !== undefined && this.#position !== size) {
      throw new VGGNetError('IO', `${this.#label}: expected ${size} bytes, got ${this.#position}`);
    }
    const digest = this.#hash.digest();
    if (digest.startsWith(sha256)) return digest;
    throw new VGGNetError(
      'CHECKSUM_MISMATCH',
      `${this.#label}: expected a SHA-256 of ${sha256}${sha256.length < digest.length ? '…' : ''}, got ${digest} in ` +
        `${this.#position} bytes; ${name} was deleted`,
    );
  }

  #gaveUp(error: Passing, failures: number): VGGNetError {
    const tries = `${failures} ${failures === 1 ? 'try' : 'tries'}`;
    const kept = this.#position > 0 ? `, at byte ${this.#position}` : '';
    return new VGGNetError('IO', `Could not download ${this.#label}: ${error.message}; after ${tries}${kept}`, {
      cause: error.cause ?? error,
    });
  }

  /** Exponential back-off; half of it by chance, so that clients cut at once do not come back at once. */
  async #pause(failures: number, retryAfter = 0): Promise<void> {
    const { signal, retryDelay = RETRY_DELAY_MS } = this.#options;
    const most = Math.min(MAX_DELAY_MS, retryDelay * 2 ** (failures - 1));
    const delay = Math.max(retryAfter, most * (0.5 + Math.random() / 2));
    let timer: ReturnType<typeof setTimeout> | undefined;
    const passed = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, delay);
    });
    try {
      await abortable(passed, signal);
    } catch (error) {
      this.interrupted = true;
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/**
 * True for another server than the page's. With If-Range it would first be asked whether it wants to be asked, and most
 * say no; the version of what it sends is compared all the same.
 */
function isForeign(url: URL): boolean {
  const page: string | undefined = globalThis.location?.origin;
  return page !== undefined && page !== url.origin;
}

/** A browser's HTTP cache would keep the file a second time, and join parts by rules of its own. */
function pastHttpCache(): RequestInit {
  const page: Location | undefined = globalThis.location;
  return page ? { cache: 'no-store' } : {};
}

/** Counts the time spent waiting for a server, and ends a wait in which too little comes. */
class Watch {
  readonly #limit: number;
  #waited = 0;
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  async wait<T>(work: Promise<T>): Promise<T> {
    const start = performance.now();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stalled = new Promise<never>((_, reject) => {
      const stop = (): void => reject(new Passing(`nothing came for ${this.#limit} ms`));
      timer = setTimeout(stop, this.#limit - this.#waited);
    });
    try {
      return await Promise.race([work, stalled]);
    } finally {
      clearTimeout(timer);
      work.catch(() => {});
      this.#waited += performance.now() - start;
    }
  }

  came(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < TRICKLE_BYTES) return;
    this.#bytes = 0;
    this.#waited = 0;
  }
}
