/** A share of a budget. Give it back by `release`, once or more often. */
export interface Lease {
  /** Makes the share at least so large; false, and nothing changes, if the budget does not allow it. */
  readonly growTo: (bytes: number) => boolean;
  readonly release: () => void;
}

/** An amount that all requests share: of bytes, requests or images. */
export class Budget {
  readonly limit: number;
  #used = 0;

  constructor(limit: number) {
    this.limit = limit;
  }

  get used(): number {
    return this.#used;
  }

  get isFull(): boolean {
    return this.#used >= this.limit;
  }

  /** A share of this size, or undefined if no such share is left. */
  take(amount: number): Lease | undefined {
    if (this.#used + amount > this.limit) return undefined;
    this.#used += amount;
    let share = amount;
    return {
      growTo: (bytes) => {
        const more = bytes - share;
        if (more <= 0) return true;
        if (this.#used + more > this.limit) return false;
        this.#used += more;
        share = bytes;
        return true;
      },
      release: () => {
        this.#used -= share;
        share = 0;
      },
    };
  }
}
