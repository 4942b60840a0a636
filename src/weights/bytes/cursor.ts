import { abortable, eitherSignal } from '../../abort.js';
import { throwIfAborted, VGGNetError } from '../../errors.js';
import type { ByteSource } from './bytes.js';
import { type LoadProgress, ProgressMeter } from './progress.js';

/** Where a run of values comes from: a part of a file as it is, or unpacked from one. */
export interface DataReader {
  /** Fills `into`, and gives the number of bytes, which is less only at the end. */
  read(into: Uint8Array<ArrayBuffer>): Promise<number>;
  /** Passes over bytes, and gives how many there were. */
  skip(count: number): Promise<number>;
}

export interface CursorOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/** Read ahead when a few bytes are asked for. */
const AHEAD_BYTES = 4096;
/** Passed over between two looks at the signal. */
const SKIP_BYTES = 2 ** 20;

/** Bytes with a position: looks ahead, reads, skips, reports progress and stops when the signal fires. */
export class ByteCursor implements DataReader {
  readonly label: string;
  readonly size: number | undefined;
  readonly #bytes: ByteSource;
  readonly #meter: ProgressMeter;
  #signal: AbortSignal | undefined;
  #position = 0;
  /** The farthest byte so far, for progress. */
  #reached = 0;
  /** Bytes from the position on that were read already. */
  #ahead: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  constructor(bytes: ByteSource, { signal, onProgress }: CursorOptions = {}) {
    this.label = bytes.label;
    this.size = bytes.size;
    this.#bytes = bytes;
    this.#meter = new ProgressMeter(onProgress, bytes.size ?? bytes.expectedSize);
    this.#signal = signal;
  }

  get position(): number {
    return this.#position;
  }

  get canSeek(): boolean {
    return this.#bytes.seek !== undefined;
  }

  /** A second signal that stops reading. */
  listen(signal: AbortSignal | undefined): void {
    this.#signal = eitherSignal(this.#signal, signal);
    throwIfAborted(this.#signal);
  }

  /** Throws `INVALID_WEIGHTS_FILE` with the file's name before what is wrong. */
  fail(what: string): never {
    throw new VGGNetError('INVALID_WEIGHTS_FILE', `${this.label}: ${what}`);
  }

  /** The next bytes without passing over them: `count`, or fewer at the end. Good until the next call. */
  async peek(count: number): Promise<Uint8Array<ArrayBuffer>> {
    const before = this.#ahead;
    if (before.length < count) {
      const left = this.size === undefined ? Number.POSITIVE_INFINITY : Math.max(0, this.size - this.#position);
      const buffer = new Uint8Array(Math.min(Math.max(count, AHEAD_BYTES), left));
      buffer.set(before);
      const got = await this.#pull(buffer.subarray(before.length));
      this.#ahead = buffer.subarray(0, before.length + got);
    }
    return this.#ahead.subarray(0, count);
  }

  /**
   * The next bytes, passed over. The array is the caller's.
   * @param what in which the file may not end: 'the central directory'
   */
  async take(count: number, what: string): Promise<Uint8Array<ArrayBuffer>> {
    const start = this.#position;
    if (this.size !== undefined && start + count > this.size) {
      this.fail(`${what}, from byte ${start} to ${start + count}, goes past the end, at ${this.size}`);
    }
    const out = new Uint8Array(count);
    const got = await this.read(out);
    if (got < count) this.fail(`ends at byte ${start + got}, within ${what}, from byte ${start} to ${start + count}`);
    return out;
  }

  async read(into: Uint8Array<ArrayBuffer>): Promise<number> {
    throwIfAborted(this.#signal);
    const part = this.#ahead.subarray(0, into.length);
    into.set(part);
    this.#ahead = this.#ahead.subarray(part.length);
    const rest = into.subarray(part.length);
    const got = part.length + (rest.length > 0 ? await this.#pull(rest) : 0);
    this.#advance(got);
    return got;
  }

  async skip(count: number): Promise<number> {
    let skipped = Math.min(count, this.#ahead.length);
    this.#ahead = this.#ahead.subarray(skipped);
    this.#advance(skipped);
    while (skipped < count) {
      throwIfAborted(this.#signal);
      const part = Math.min(SKIP_BYTES, count - skipped);
      const got = await abortable(this.#bytes.skip(part), this.#signal);
      this.#advance(got);
      skipped += got;
      if (got < part) break;
    }
    return skipped;
  }

  /** Goes to a byte of bytes that can seek. */
  seek(position: number): void {
    const within = position - this.#position;
    if (within >= 0 && within <= this.#ahead.length) {
      this.#ahead = this.#ahead.subarray(within);
    } else {
      this.#ahead = new Uint8Array(0);
      this.#bytes.seek?.(position);
    }
    this.#position = position;
  }

  /** Reports that all is read, whatever lies between. */
  async finish(): Promise<void> {
    if (this.size !== undefined && this.size > this.#reached) this.#meter.advance(this.size - this.#reached);
    await this.#meter.finish();
  }

  async close(): Promise<void> {
    this.#ahead = new Uint8Array(0);
    await this.#bytes.close();
  }

  async #pull(into: Uint8Array<ArrayBuffer>): Promise<number> {
    throwIfAborted(this.#signal);
    return abortable(this.#bytes.read(into), this.#signal);
  }

  #advance(count: number): void {
    this.#position += count;
    if (this.#position <= this.#reached) return;
    this.#meter.advance(this.#position - this.#reached);
    this.#reached = this.#position;
  }
}
