/** How far reading has come, in bytes. `total` is left out where nobody has said it. */
export interface LoadProgress {
  readonly loaded: number;
  readonly total?: number;
}

const INTERVAL_MS = 50;

/** Counts bytes and reports them, at most 20 times a second and once at the end. */
export class ProgressMeter {
  readonly #report: ((progress: LoadProgress) => void) | undefined;
  readonly #total: number | undefined;
  #loaded = 0;
  #last = Number.NEGATIVE_INFINITY;

  constructor(report: ((progress: LoadProgress) => void) | undefined, total: number | undefined) {
    this.#report = report;
    this.#total = total;
  }

  advance(bytes: number): void {
    this.#loaded += bytes;
    if (!this.#report) return;
    const now = performance.now();
    if (now - this.#last < INTERVAL_MS) return;
    this.#last = now;
    this.#emit();
  }

  /** All is read. */
  finish(): void {
    this.#emit();
  }

  #emit(): void {
    // A server's Content-Length may be wrong: what came is then all that is known.
    const total = this.#total !== undefined && this.#total >= this.#loaded ? this.#total : undefined;
    this.#report?.({ loaded: this.#loaded, ...(total === undefined ? {} : { total }) });
  }
}
