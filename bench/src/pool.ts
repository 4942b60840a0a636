import type { Group, RowPlan } from './plan.js';
import type { Session } from './session.js';

/** A process, and what rows have asked of it so far. */
interface Pooled {
  readonly key: string;
  /** By batch. All of them are of the same process. */
  readonly sessions: Map<number, Session>;
}

export interface PoolOptions {
  readonly open: (plan: RowPlan) => Promise<Session>;
  /** How many processes may wait for a later group. */
  readonly waiting: number;
}

/**
 * The processes of a run. Loading half a gigabyte takes longer than most rows' samples, so a process that has loaded a
 * system serves all rows that want the same one, and of them those with larger batches after those with smaller ones:
 * so the most memory that it has had by then is the row's own. It ends once no later group wants it.
 */
export class SessionPool {
  readonly #options: PoolOptions;
  readonly #processes = new Set<Pooled>();

  constructor(options: PoolOptions) {
    this.#options = options;
  }

  /** A session that is loaded and has run the row's batch once. */
  async take(plan: RowPlan): Promise<Session> {
    const { batch } = plan.job;
    const key = keyOf(plan);
    const fitting = [...this.#processes].filter((one) => one.key === key && largestBatch(one) <= batch);
    const found = fitting.sort((a, b) => largestBatch(b) - largestBatch(a))[0];
    if (!found) {
      const session = await this.#options.open(plan);
      this.#processes.add({ key, sessions: new Map([[batch, session]]) });
      return session;
    }
    const { sessions } = found;
    try {
      const session = sessions.get(batch) ?? (await (sessions.values().next().value as Session).withBatch(batch));
      sessions.set(batch, session);
      return session;
    } catch (error) {
      await this.#end(found);
      throw error;
    }
  }

  /** Ends the process of a session that has failed. */
  async discard(session: Session): Promise<void> {
    for (const one of this.#processes) if ([...one.sessions.values()].includes(session)) this.#processes.delete(one);
    await session.close();
  }

  /** After a group: ends the processes that none of the later ones wants, or that are too many, those wanted last first. */
  async settle(later: readonly Group[]): Promise<void> {
    const wants = (plan: RowPlan, one: Pooled): boolean =>
      keyOf(plan) === one.key && plan.job.batch >= largestBatch(one);
    const waiting = [...this.#processes].map((one) => {
      const next = later.findIndex(({ rows }) => rows.some((plan) => wants(plan, one)));
      return { one, next: next < 0 ? Number.POSITIVE_INFINITY : next };
    });
    waiting.sort((a, b) => a.next - b.next);
    for (const [i, { one, next }] of waiting.entries()) {
      if (i >= this.#options.waiting || next === Number.POSITIVE_INFINITY) await this.#end(one);
    }
  }

  async close(): Promise<void> {
    for (const one of [...this.#processes]) await this.#end(one);
  }

  async #end(one: Pooled): Promise<void> {
    this.#processes.delete(one);
    for (const session of one.sessions.values()) await session.close();
  }
}

/** What rows have in common that one process can serve. */
function keyOf({ runtime, flags, timeoutMs, job }: RowPlan): string {
  return JSON.stringify([runtime, flags, timeoutMs, { ...job, batch: 0 }]);
}

function largestBatch({ sessions }: Pooled): number {
  return Math.max(...sessions.keys());
}
