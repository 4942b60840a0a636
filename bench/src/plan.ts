import { MODEL_NAMES } from '../../src/config.js';
import { numel } from '../../src/tensor.js';
import type { BackendName, Job, Level, SystemName } from './job.js';
import { kernelCases, PEAK, STREAM, STREAM_BYTES } from './kernels/cases.js';
import { layerCosts, networkCost } from './network.js';

/** A row to be measured. Its id says everything that tells it from the others. */
export interface RowPlan {
  readonly id: string;
  readonly level: Level;
  readonly kind: 'forward' | 'layers' | 'kernel';
  /** A name in runtimes/index.ts. */
  readonly runtime: string;
  readonly flags: readonly string[];
  readonly job: Omit<Job, 'files'>;
  readonly warmup: number;
  readonly samples: number;
  readonly macs: number;
  readonly bytes: number;
  readonly input: readonly number[];
  /** Of the kernels' level: the case's name and what the table calls it. */
  readonly kernel?: { readonly name: string; readonly shape: string; readonly layers: readonly string[] };
}

/** Rows whose samples are taken in turn, A B C A B C, so that what disturbs the machine disturbs all of them. */
export interface Group {
  readonly id: string;
  readonly rows: readonly RowPlan[];
}

export interface PlanOptions {
  readonly quick: boolean;
  /** Cores that may be used. */
  readonly cores: number;
  /** What runs every row but those that compare runtimes. */
  readonly runtime: MainRuntime;
  /** In place of every row's own number. */
  readonly samples?: number | undefined;
}

const SIZE = 224;
/** What all systems are compared with. */
const NETWORK = 'vgg16';
const BUILDS = ['simd', 'relaxed-simd'] as const;
type Build = (typeof BUILDS)[number];

interface Effort {
  readonly warmup: number;
  readonly samples: number;
}

/** Everything that the suite measures, in order. */
export function makePlan(options: PlanOptions): Group[] {
  const { quick, samples, cores } = options;
  const threads = cores > 1 ? [1, cores] : [1];
  const make = new RowMaker(options.runtime);
  const groups = [
    ...kernelGroups(make, quick),
    ...(quick ? [] : layerGroups(make, threads)),
    ...networkGroups(make, quick, threads),
    ...(quick ? [] : backendGroups(make, threads)),
    ...runtimeGroups(make, quick, threads),
    ...peerGroups(make, quick, threads),
    ...(quick ? [] : scalingGroups(make, cores)),
  ];
  if (samples === undefined) return groups;
  return groups.map((group) => ({ ...group, rows: group.rows.map((row) => ({ ...row, samples })) }));
}

export interface MainRuntime {
  readonly name: string;
  /** Flags with which it has relaxed SIMD. */
  readonly relaxedFlags: readonly string[];
}

/** A Node by its version: relaxed SIMD is on from 22, and behind a flag before. */
export function nodeRuntime(name: string, version: string): MainRuntime {
  const old = Number.parseInt(version, 10) < 22;
  return { name, relaxedFlags: old ? ['--experimental-wasm-relaxed-simd'] : [] };
}

function kernelGroups(make: RowMaker, quick: boolean): Group[] {
  return BUILDS.map((build) => {
    const limits = [
      { name: PEAK, shape: 'tile in L1', layers: [], macs: 0, bytes: 0, input: [] },
      { name: STREAM, shape: '256 MiB', layers: [], macs: 0, bytes: STREAM_BYTES, input: [STREAM_BYTES / 4] },
    ];
    const cases = kernelCases().filter((one) => one.quick || !quick);
    return {
      id: `kernels/${build}`,
      rows: [...limits, ...cases].map(({ name, shape, layers, macs, bytes, input }) => ({
        ...make.forward('kernels', `${build}/${name}`, { build }, { warmup: 2, samples: quick ? 6 : 10 }),
        kind: 'kernel' as const,
        job: { ...make.job({ build }), system: 'kernels' as const },
        ...{ macs, bytes, input, kernel: { name, shape, layers } },
      })),
    };
  });
}

function layerGroups(make: RowMaker, threads: readonly number[]): Group[] {
  const rows = BUILDS.flatMap((build) =>
    threads.map((count) => ({
      ...make.forward(
        'layers',
        `${NETWORK}/wasm-${build}/t${count}`,
        { build, threads: count },
        { warmup: 2, samples: 9 },
      ),
      kind: 'layers' as const,
    })),
  );
  return [{ id: 'layers', rows }];
}

function networkGroups(make: RowMaker, quick: boolean, threads: readonly number[]): Group[] {
  const models = quick ? [NETWORK] : MODEL_NAMES;
  const batches = quick ? [1] : [1, 8];
  const rows = (model: string): RowPlan[] =>
    batches.flatMap((batch) =>
      threads.map((count) =>
        make.forward(
          'networks',
          `${model}/b${batch}/t${count}`,
          { model, batch, threads: count, build: 'relaxed-simd' },
          batch === 1 ? { warmup: 1, samples: 7 } : { warmup: 1, samples: 5 },
        ),
      ),
    );
  return models.map((model) => ({ id: `networks/${model}`, rows: rows(model) }));
}

function backendGroups(make: RowMaker, threads: readonly number[]): Group[] {
  const effort = { warmup: 2, samples: 9 };
  const wasm = BUILDS.flatMap((build) =>
    threads.map((count) => make.forward('backends', `wasm-${build}/t${count}`, { build, threads: count }, effort)),
  );
  return [{ id: 'backends', rows: [...wasm, make.forward('backends', 'webgpu', { backend: 'webgpu' }, effort)] }];
}

/** The library as it comes, with the build that each runtime takes by itself. */
function runtimeGroups(make: RowMaker, quick: boolean, threads: readonly number[]): Group[] {
  const effort = quick ? { warmup: 1, samples: 6 } : { warmup: 2, samples: 9 };
  return (quick ? [1] : threads).map((count) => ({
    id: `runtimes/t${count}`,
    rows: RUNTIMES.map((runtime) => ({
      ...make.forward('runtimes', `${runtime}/t${count}`, { threads: count }, effort),
      ...{ runtime, flags: [] },
    })),
  }));
}

/** In the order of the table; one that is listed here and not in runtimes/index.ts gives a row that says so. */
export const RUNTIMES: readonly string[] = ['node', 'node24', 'node26', 'deno', 'bun', 'chromium', 'firefox'];

function peerGroups(make: RowMaker, quick: boolean, threads: readonly number[]): Group[] {
  const effort = quick ? { warmup: 1, samples: 6 } : { warmup: 2, samples: 11 };
  const peer = (system: SystemName, backend: BackendName, count: number): RowPlan =>
    make.forward('peers', `${system}-${backend}/t${count}`, { system, backend, threads: count }, effort);
  const groups = threads.map((count) => ({
    id: `peers/t${count}`,
    rows: [
      ...BUILDS.map((build) =>
        make.forward('peers', `vggnet-wasm-${build}/t${count}`, { build, threads: count }, effort),
      ),
      peer('onnxruntime-web', 'wasm', count),
      peer('tfjs', 'wasm', count),
      peer('onnxruntime-node', 'native', count),
    ],
  }));
  const webgpu = (['vggnet', 'onnxruntime-web', 'tfjs'] as const).map((system) => ({
    ...peer(system, 'webgpu', 1),
    id: `peers/${system}-webgpu`,
  }));
  return [...groups, { id: 'peers/webgpu', rows: webgpu }];
}

function scalingGroups(make: RowMaker, cores: number): Group[] {
  const counts = Array.from({ length: 16 }, (_, i) => 2 ** i).filter((count) => count < cores);
  const rows = (batch: number, threads: readonly number[]): RowPlan[] =>
    threads.map((count) =>
      make.forward(
        'scaling',
        `b${batch}/t${count}`,
        { batch, threads: count, build: 'relaxed-simd' },
        batch > 2 ? { warmup: 1, samples: 5 } : { warmup: 1, samples: 7 },
      ),
    );
  return [1, 2, 4, 8].map((batch) => ({
    id: `scaling/b${batch}`,
    rows: rows(batch, batch === 1 ? [...counts, cores] : [...new Set([1, cores])]),
  }));
}

interface Choice {
  readonly system?: SystemName;
  readonly backend?: BackendName;
  readonly build?: Build;
  readonly threads?: number;
  readonly model?: string;
  readonly batch?: number;
}

class RowMaker {
  readonly #runtime: MainRuntime;

  constructor(runtime: MainRuntime) {
    this.#runtime = runtime;
  }

  job(choice: Choice): Omit<Job, 'files'> {
    return { system: 'vggnet', backend: 'wasm', threads: 1, model: NETWORK, batch: 1, size: SIZE, ...choice };
  }

  forward(level: Level, name: string, choice: Choice, effort: Effort): RowPlan {
    const job = this.job(choice);
    return {
      id: `${level}/${name}`,
      level,
      kind: 'forward',
      runtime: this.#runtime.name,
      flags: choice.build === 'relaxed-simd' ? this.#runtime.relaxedFlags : [],
      job,
      ...effort,
      ...networkCost(job.model, job.batch, job.size),
      input: [job.batch, 3, job.size, job.size],
    };
  }
}

/** Bytes that a step of a profile must move: fused layers, such as `conv1_1+relu1_1`, keep what lies between them. */
export function stepBytes(job: Omit<Job, 'files'>, name: string): number {
  const names = name.split('+');
  const costs = layerCosts(job.model, job.batch, job.size);
  const [first, last] = [names[0], names.at(-1)].map((one) => costs.find(({ layer }) => layer.name === one));
  return first && last ? first.bytes + 4 * (numel(last.outShape) - numel(first.outShape)) : 0;
}

/**
 * The rows that were asked for: `only` names levels, `names` rows, by id or the beginning of one up to a slash.
 * `unknown` are names that match nothing.
 */
export function select(
  groups: readonly Group[],
  only: readonly Level[],
  names: readonly string[],
): { groups: Group[]; unknown: string[] } {
  const matches = (id: string, name: string): boolean => id === name || id.startsWith(`${name.replace(/\/$/, '')}/`);
  const wanted = (row: RowPlan): boolean =>
    (only.length === 0 || only.includes(row.level)) &&
    (names.length === 0 || names.some((name) => matches(row.id, name)));
  const chosen = groups.map((group) => ({ ...group, rows: group.rows.filter(wanted) }));
  const ids = groups.flatMap(({ rows }) => rows.map(({ id }) => id));
  return {
    groups: chosen.filter(({ rows }) => rows.length > 0),
    unknown: names.filter((name) => !ids.some((id) => matches(id, name))),
  };
}
