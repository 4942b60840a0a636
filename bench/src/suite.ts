import { type Job, type JobFiles, Unavailable } from './job.js';
import { type Group, type RowPlan, stepBytes } from './plan.js';
import { SessionPool } from './pool.js';
import { type LayerSamples, measured, QUIET, type Row, summarise } from './record.js';
import { compareLogits, type Reference } from './reference.js';
import type { Runtime, Session } from './session.js';
import { median } from './stats.js';

/** For one request to a system: a load, or a forward. */
const TIMEOUT_MS = 120_000;
/** Between two samples, for threads that still spin after the last one. */
const REST_MS = 20;
/** What rows need on the disk: see files.ts. */
export interface SuiteFiles {
  prepare(group: Group, signal: AbortSignal): Promise<void>;
  of(job: Omit<Job, 'files'>): JobFiles;
  /** Of the file of weights that the job reads. */
  bytes(job: Omit<Job, 'files'>): number;
  reference(model: string, size: number): Reference | undefined;
  release(model: string): void;
}

export interface SuiteOptions {
  readonly runtimes: ReadonlyMap<string, Runtime>;
  readonly files: SuiteFiles;
  readonly commit: string;
  readonly machine: Row['machine'];
  /** The share of the cores that other work takes. */
  readonly otherLoad: () => Promise<number>;
  readonly signal: AbortSignal;
  /** Every row as it is done, also the skipped ones. */
  readonly onRow: (row: Row) => void;
  readonly log: (line: string) => void;
  /** How many processes may stay for a later group that wants the same. */
  readonly waiting: number;
}

/** What one row has so far. */
interface Progress {
  readonly plan: RowPlan;
  session?: Session;
  samples: number[];
  layers: Map<string, LayerSamples & { samples: number[] }>;
  /** Of rows whose samples are processes: the most memory of each. */
  peaks: number[];
  /** Of other rows: the most memory by the end of the first forward. */
  peakMemory?: number | undefined;
  failure?: string;
}

/** Measures groups of rows, one group after the other. Nothing that goes wrong with a row stops the others. */
export class Suite {
  readonly #options: SuiteOptions;
  readonly #versions = new Map<string, string>();
  readonly #run = new Date().toISOString();
  /** Before the group that is under way. */
  #otherLoad = 0;
  readonly #pool: SessionPool;

  constructor(options: SuiteOptions) {
    this.#options = options;
    this.#pool = new SessionPool({ open: (plan) => this.#open(plan), waiting: options.waiting });
  }

  /** Stops at an interrupt, with what was measured until then given to `onRow`. */
  async run(groups: readonly Group[]): Promise<void> {
    await this.#findRuntimes(groups);
    try {
      for (const [i, group] of groups.entries()) {
        if (this.#options.signal.aborted) return;
        this.#options.log(`${group.id}: ${group.rows.length} rows`);
        await this.#group(group);
        await this.#pool.settle(groups.slice(i + 1));
        const model = group.rows[0]?.job.model;
        const later = groups.slice(i + 1).some(({ rows }) => rows.some((row) => row.job.model === model));
        if (model && !later) this.#options.files.release(model);
      }
    } finally {
      await this.#pool.close();
    }
  }

  async #group(group: Group): Promise<void> {
    const rows: Progress[] = group.rows.map((plan) => ({ plan, samples: [], layers: new Map(), peaks: [] }));
    try {
      await this.#options.files.prepare(group, this.#options.signal);
    } catch (error) {
      for (const row of rows) row.failure = this.#reason(error);
      for (const row of rows) this.#emit(group, row);
      return;
    }
    this.#otherLoad = await this.#options.otherLoad();
    if (this.#otherLoad > QUIET) {
      this.#options.log(
        `  other work takes ${Math.round(100 * this.#otherLoad)}% of the cores: times and spreads will be large`,
      );
    }
    if (group.rows.some(({ kind }) => kind === 'kernel')) await this.#kernels(group, rows);
    else if (group.rows.some(({ kind }) => kind === 'load')) await this.#loads(group, rows);
    else await this.#forwards(group, rows);
  }

  async #open(plan: RowPlan): Promise<Session> {
    const runtime = this.#options.runtimes.get(plan.runtime);
    if (!runtime) throw new Unavailable(`the suite has no runtime '${plan.runtime}'`);
    const job: Job = { ...plan.job, files: this.#options.files.of(plan.job) };
    const { flags, timeoutMs = TIMEOUT_MS } = plan;
    return runtime.open(job, { flags, timeoutMs, signal: this.#options.signal });
  }

  /** One process for all cases of a build. */
  async #kernels(group: Group, rows: readonly Progress[]): Promise<void> {
    let session: Session | undefined;
    for (const row of rows) {
      if (this.#options.signal.aborted) break;
      let extra: Partial<Row> = {};
      try {
        session ??= await this.#open(row.plan);
        const got = await session.kernel(row.plan.kernel?.name ?? '', row.plan.samples);
        row.samples = [...got.samples];
        row.session = session;
        extra = kernelRow(row.plan, got);
      } catch (error) {
        row.failure = this.#reason(error);
        // A process that has died is replaced for the next case.
        if (!(error instanceof Unavailable)) {
          await session?.close();
          session = undefined;
        }
      }
      this.#emit(group, row, extra);
    }
    await session?.close();
  }

  async #forwards(group: Group, rows: readonly Progress[]): Promise<void> {
    // One after the other, so that no load disturbs another's.
    for (const row of rows) {
      await this.#attempt(row, async () => {
        row.session = await this.#pool.take(row.plan);
        row.peakMemory = await row.session.peakMemory();
      });
    }
    const rounds = Math.max(...rows.map(({ plan }) => plan.warmup + plan.samples));
    for (let round = 0; round < rounds; round++) {
      for (const row of rows) await this.#attempt(row, () => this.#sample(row, round));
    }
    for (const row of rows) {
      this.#emit(group, row, await this.#finish(row));
    }
  }

  /** A new process for every sample: what a cold start takes, and the most memory on the way. */
  async #loads(group: Group, rows: readonly Progress[]): Promise<void> {
    const rounds = Math.max(...rows.map(({ plan }) => plan.warmup + plan.samples));
    const extras = new Map<Progress, Partial<Row>>();
    for (let round = 0; round < rounds; round++) {
      for (const row of rows) {
        await this.#attempt(row, async () => {
          const { warmup, samples } = row.plan;
          if (round >= warmup + samples) return;
          row.session = await this.#open(row.plan);
          const peak = await row.session.peakMemory();
          if (round < warmup) return;
          row.samples.push(row.session.opened.firstMs);
          if (peak !== undefined) row.peaks.push(peak);
          if (!extras.has(row)) extras.set(row, await this.#finish(row));
        });
        await row.session?.close();
      }
    }
    for (const row of rows) {
      const { peaks } = row;
      this.#emit(group, row, {
        ...extras.get(row),
        ...(peaks.length > 0 && { peaks, peakMemory: Math.max(...peaks) }),
      });
    }
  }

  /** A sample of the row, if it has one in this round. */
  async #sample({ plan, session, samples, layers }: Progress, round: number): Promise<void> {
    if (!session || round >= plan.warmup + plan.samples) return;
    await new Promise((resolve) => setTimeout(resolve, REST_MS));
    if (plan.kind === 'layers') {
      const profile = await session.profile();
      if (round < plan.warmup) return;
      samples.push(profile.totalMs);
      for (const { name, ms, macs } of profile.layers) {
        const layer = layers.get(name) ?? { name, macs, bytes: stepBytes(plan.job, name), samples: [] };
        layers.set(name, layer);
        layer.samples.push(Number(ms.toPrecision(5)));
      }
      return;
    }
    const ms = await session.sample();
    if (round >= plan.warmup) samples.push(ms);
  }

  /** What a row says beside its samples: its load, its memory, and how far its output is from the reference. */
  async #finish(row: Progress): Promise<Partial<Row>> {
    const { session, plan } = row;
    const extra: { -readonly [Key in keyof Row]?: Row[Key] } = {};
    if (!session || row.samples.length === 0) return extra;
    const { loadMs, firstMs, baseMemory } = session.opened;
    const { peakMemory } = row;
    Object.assign(extra, { loadMs: Math.round(loadMs), firstMs: Math.round(firstMs), peakMemory });
    if (plan.kind === 'load') extra.baseMemory = baseMemory;
    if (plan.kind === 'load' || plan.kind === 'reader') extra.fileBytes = this.#options.files.bytes(plan.job);
    if (row.layers.size > 0) extra.layers = [...row.layers.values()];
    await this.#attempt(row, async () => {
      const { model, size, batch, precision } = plan.job;
      if (plan.kind === 'reader') return;
      const reference = this.#options.files.reference(model, size);
      if (!reference) return;
      Object.assign(extra, compareLogits(await session.logits(), batch, reference, precision));
      extra.reference = reference.name;
    });
    return extra;
  }

  /** Does a step of a row unless an earlier one failed, and keeps the reason if this one fails. */
  async #attempt(row: Progress, step: () => Promise<void>): Promise<void> {
    if (row.failure !== undefined || this.#options.signal.aborted) return;
    try {
      await step();
    } catch (error) {
      // An interrupt is not the row's failure: it keeps its samples.
      if (this.#options.signal.aborted) return;
      row.failure = this.#reason(error);
      if (row.session) await this.#pool.discard(row.session);
    }
  }

  #reason(error: unknown): string {
    if (this.#options.signal.aborted) return 'interrupted';
    return error instanceof Error ? error.message : String(error);
  }

  #emit(group: Group, { plan, session, samples, failure }: Progress, extra: Partial<Row> = {}): void {
    const interrupted = this.#options.signal.aborted;
    const skipped = failure ?? (samples.length === 0 ? 'interrupted' : undefined);
    // A row that never began is no row of an interrupted run.
    if (interrupted && skipped === 'interrupted') return;
    const { job } = plan;
    const system = session?.opened.system;
    const row: Row = {
      id: plan.id,
      level: plan.level,
      group: group.id,
      date: new Date().toISOString(),
      run: this.#run,
      commit: this.#options.commit,
      machine: this.#options.machine,
      runtime: { name: plan.runtime, version: this.#versions.get(plan.runtime) ?? '', flags: plan.flags },
      system: { name: job.system, version: system?.version ?? '' },
      backend: job.backend,
      build: system?.build ?? job.build ?? '',
      threads: system?.threads ?? job.threads,
      ...(system?.adapter && { adapter: system.adapter }),
      network: plan.kernel ? `${plan.kernel.name} (${plan.kernel.shape})` : job.model,
      ...(job.precision && { precision: job.precision }),
      batch: job.batch,
      input: plan.input,
      warmup: plan.warmup,
      ...summarise(skipped === undefined ? samples : [], plan.macs),
      bytes: plan.bytes,
      otherLoad: this.#otherLoad,
      ...extra,
      ...(interrupted && { interrupted }),
      ...(skipped !== undefined && { skipped }),
    };
    this.#options.log(`  ${row.id}: ${describeRow(row)}`);
    this.#options.onRow(row);
  }

  /** Asks every runtime that rows need for its version, once. Those that are missing say so here and in their rows. */
  async #findRuntimes(groups: readonly Group[]): Promise<void> {
    const needed = new Set(groups.flatMap(({ rows }) => rows.map(({ runtime }) => runtime)));
    for (const [name, runtime] of this.#options.runtimes) {
      if (!needed.has(name)) continue;
      try {
        this.#versions.set(name, (await runtime.find()).version);
      } catch (error) {
        this.#options.log(`${name}: ${this.#reason(error)}`);
      }
    }
  }
}

function kernelRow(plan: RowPlan, got: Awaited<ReturnType<Session['kernel']>>): Partial<Row> {
  const limit = plan.kernel?.name.startsWith('limit/');
  const { peakMacs, peakBytes } = got;
  const macs = plan.kernel?.name === 'limit/compute' ? (peakMacs ?? 0) : plan.macs;
  // As often as the limit's work goes into this one's, in its own time.
  const share = peakBytes ? plan.bytes / peakBytes : plan.macs / (peakMacs ?? Number.NaN);
  const rates = summarise(got.samples, macs);
  return {
    ...rates,
    warmup: got.warmup,
    layerNames: plan.kernel?.layers,
    ...(!limit && {
      error: got.error,
      wrong: !(got.error < 1e-3),
      reference: 'float64 sums, at 64 outputs',
      peakSamples: got.peakSamples.map((ms) => Number(ms.toPrecision(5))),
      ...(peakMacs && { peakMacs }),
      ...(peakBytes && { peakBytes }),
      ...(macs > 0 && { shareOfPeak: Number(((share * median(got.peakSamples)) / rates.median).toPrecision(4)) }),
    }),
  };
}

/** A row in a line, for the terminal. */
export function describeRow(row: Row): string {
  if (!measured(row)) return `skipped: ${row.skipped}`;
  const parts = [`${row.median.toPrecision(4)} ms (${row.min.toPrecision(4)} to p90 ${row.p90.toPrecision(4)})`];
  if (row.gflops > 0) parts.push(`${row.gflops.toPrecision(4)} GFLOP/s`);
  if (row.shareOfPeak !== undefined) parts.push(`${Math.round(100 * row.shareOfPeak)}% of the peak`);
  if (row.error !== undefined) parts.push(`error ${row.error?.toExponential(1)}${row.wrong ? ' WRONG' : ''}`);
  return parts.join(', ');
}
