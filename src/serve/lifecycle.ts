export interface DrainOptions {
  /**
   * How long requests are answered on, in ms, while `/v2/health/ready` says 503 and every answer asks for its connection to
   * be closed: until those who send requests have noticed. Default 0.
   */
  readonly delay?: number | undefined;
}

/** Which requests are in progress, and whether more may come. */
export class Lifecycle {
  #active = 0;
  #state: 'open' | 'leaving' | 'closed' = 'open';
  #whenIdle: (() => void)[] = [];

  /** Requests whose answer has not been sent whole. */
  get active(): number {
    return this.#active;
  }

  /** False from when it begins to drain. */
  get isOpen(): boolean {
    return this.#state === 'open';
  }

  /** True when it takes no requests any more. */
  get isClosed(): boolean {
    return this.#state === 'closed';
  }

  begin(): void {
    this.#active++;
  }

  end(): void {
    this.#active--;
    if (this.#active > 0) return;
    for (const tell of this.#whenIdle) tell();
    this.#whenIdle = [];
  }

  async drain({ delay = 0 }: DrainOptions = {}): Promise<void> {
    if (this.#state === 'open') this.#state = 'leaving';
    if (delay > 0) await new Promise((resolve) => setTimeout(resolve, delay));
    this.#state = 'closed';
    if (this.#active > 0) await new Promise<void>((resolve) => this.#whenIdle.push(resolve));
  }
}
