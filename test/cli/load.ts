import { Pool } from 'undici';

/** How requests were answered. */
export class Load {
  /** Milliseconds from when a request was due to its answer, by status. */
  readonly times: ReadonlyMap<number, readonly number[]>;
  /** Why requests had no answer. */
  readonly errors: readonly string[];
  /** Requests that were not sent, as every connection waited for an answer. */
  readonly unsent: number;
  readonly #seconds: number;

  constructor(times: ReadonlyMap<number, number[]>, errors: readonly string[], unsent: number, seconds: number) {
    for (const each of times.values()) each.sort((a, b) => a - b);
    this.times = times;
    this.errors = errors;
    this.unsent = unsent;
    this.#seconds = seconds;
  }

  count(status: number): number {
    return this.times.get(status)?.length ?? 0;
  }

  /** Answers of a status in a second. */
  rate(status: number): number {
    return this.count(status) / this.#seconds;
  }

  toString(): string {
    const parts = [...this.times].map(([status, times]) => {
      const at = (share: number): string => `${(times[Math.floor(times.length * share)] as number).toFixed(1)} ms`;
      return `${times.length} × ${status} (p50 ${at(0.5)}, p99 ${at(0.99)})`;
    });
    return [...parts, `${this.unsent} not sent`, `${this.errors.length} errors`].join(', ');
  }
}

/** Posts the same body again and again, on connections that stay open. */
export class LoadClient {
  readonly #pool: Pool;
  readonly #path: string;
  readonly #body: Uint8Array;
  readonly #connections: number;
  #waiting = 0;

  constructor(url: URL, body: Uint8Array, connections: number) {
    this.#pool = new Pool(url.origin, { connections, pipelining: 1 });
    this.#path = url.pathname;
    this.#body = body;
    this.#connections = connections;
  }

  close(): Promise<void> {
    return this.#pool.close();
  }

  /** Closed loop: each of so many clients asks again as soon as it is answered. */
  async saturate(clients: number, seconds: number): Promise<Load> {
    const seen = new Seen();
    const start = performance.now();
    const ask = async (): Promise<void> => {
      for (let now = start; now < start + seconds * 1000; now = performance.now()) await this.#ask(now, seen);
    };
    await Promise.all(Array.from({ length: clients }, ask));
    return seen.load((performance.now() - start) / 1000);
  }

  /**
   * Open loop: so many requests a second, evenly, whatever becomes of those before.
   * @param busy when all connections wait for answers a request waits for one, which counts as its time, or is dropped
   * @returns as the last request was due: those that are still not answered are in `rest`
   */
  async keep(rate: number, seconds: number, busy: 'wait' | 'drop'): Promise<{ readonly rest: Promise<Load> }> {
    const seen = new Seen();
    const asked: Promise<void>[] = [];
    const start = performance.now();
    const total = Math.floor(rate * seconds);
    for (let next = 0; next < total; ) {
      const due = Math.min(total, ((performance.now() - start) / 1000) * rate);
      for (; next < due; next++) {
        if (busy === 'drop' && this.#waiting >= this.#connections) seen.unsent++;
        else asked.push(this.#ask(start + (next / rate) * 1000, seen));
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    return { rest: Promise.all(asked).then(() => seen.load(seconds)) };
  }

  /** Resolves in any case. By the pool's lowest interface: the client must take less of the machine than the server. */
  #ask(due: number, seen: Seen): Promise<void> {
    this.#waiting++;
    return new Promise((resolve) => {
      let status = 0;
      const end = (error?: Error): void => {
        this.#waiting--;
        if (error) seen.errors.push(error.message);
        else seen.answer(status, performance.now() - due);
        resolve();
      };
      this.#pool.dispatch(
        { path: this.#path, method: 'POST', body: this.#body },
        {
          onRequestStart() {},
          onResponseStart(_, code) {
            status = code;
          },
          onResponseData() {},
          onResponseEnd: () => end(),
          onResponseError: (_, error) => end(error),
        },
      );
    });
  }
}

class Seen {
  readonly #times = new Map<number, number[]>();
  readonly errors: string[] = [];
  unsent = 0;

  answer(status: number, ms: number): void {
    const times = this.#times.get(status);
    if (times) times.push(ms);
    else this.#times.set(status, [ms]);
  }

  load(seconds: number): Load {
    return new Load(this.#times, this.errors, this.unsent, seconds);
  }
}
