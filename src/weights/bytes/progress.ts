import { messageOf, VGGNetError } from '../../errors.js';

/** How far reading has come, in bytes. `total` is left out where nobody has said it. */
export interface LoadProgress {
  readonly loaded: number;
  readonly total?: number;
}

const INTERVAL_MS = 50;

/** Counts bytes and reports them, at most 20 times a second and once at the end. */
export class ProgressMeter {
  readonly #report: ((progress: LoadProgress) => unknown) | undefined;
  readonly #total: number | undefined;
  #loaded = 0;
  #last = Number.NEGATIVE_INFINITY;
  /** Of a callback that is an async function. */
  #pending: Promise<void>[] = [];
  #failure: VGGNetError | undefined;

  constructor(report: ((progress: LoadProgress) => unknown) | undefined, total: number | undefined) {
    this.#report = report;
    this.#total = total;
  }

  /** @throws whatever the callback throws; VGGNetError `INVALID_ARGUMENT` if a promise that it returned has rejected */
  advance(bytes: number): void {
    this.#loaded += bytes;
    if (!this.#report) return;
    if (this.#failure) throw this.#failure;
    const now = performance.now();
    if (now - this.#last < INTERVAL_MS) return;
    this.#last = now;
    this.#emit();
  }

  /**
   * All is read.
   * @throws as `advance`
   */
  async finish(): Promise<void> {
    this.#emit();
    if (this.#pending.length > 0) {
      // A promise that has rejected is heard; one that is still at work is not waited for.
      await Promise.race([Promise.all(this.#pending), new Promise((resolve) => setTimeout(resolve, 0))]);
    }
    if (this.#failure) throw this.#failure;
  }

  #emit(): void {
    // A server's Content-Length may be wrong: what came is then all that is known.
    const total = this.#total !== undefined && this.#total >= this.#loaded ? this.#total : undefined;
    const result = this.#report?.({ loaded: this.#loaded, ...(total === undefined ? {} : { total }) });
    if (!(result instanceof Promise)) return;
    const settled = result.then(
      () => {},
      (error: unknown) => {
        this.#failure ??= callbackError(error);
      },
    );
    this.#pending = [...this.#pending.slice(-1), settled];
  }
}

function callbackError(cause: unknown): VGGNetError {
  if (cause instanceof VGGNetError) return cause;
  return new VGGNetError('INVALID_ARGUMENT', `onProgress failed: ${messageOf(cause)}`, { cause });
}
