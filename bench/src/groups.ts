import { MODEL_NAMES } from '../../src/vgg.js';
import type { BackendName, Job, Level, PrecisionName, SystemName, WeightFormat } from './job.js';
import { kernelCases, PEAK, STREAM, STREAM_BYTES } from './kernels/cases.js';
import { networkCost } from './network.js';
import type { Group, RowPlan } from './plan.js';

/* What the suite measures, level by level. */

/** What all systems are compared with. */
const NETWORK = 'vgg16';
const SIZE = 224;
/** Of the WebGPU level: adapters that compute on the CPU need a minute for one forward at 224. */
const WEBGPU_SIZE = 32;
/** For one load or forward by WebGPU at 224×224, which may be minutes of work. */
const WEBGPU_MS = 600_000;
const BUILDS = ['simd', 'relaxed-simd'] as const;
type Build = (typeof BUILDS)[number];

interface Effort {
  readonly warmup: number;
  readonly samples: number;
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

export function kernelGroups(make: RowMaker, quick: boolean): Group[] {
  return (quick ? (['relaxed-simd'] as const) : BUILDS).map((build) => {
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

export function layerGroups(make: RowMaker, threads: readonly number[]): Group[] {
  const effort = { warmup: 2, samples: 9 };
  const rows = BUILDS.flatMap((build) =>
    threads.map((count) => ({
      ...make.forward('layers', `${NETWORK}/wasm-${build}/t${count}`, { build, threads: count }, effort),
      kind: 'layers' as const,
    })),
  );
  return [{ id: 'layers', rows }];
}

/** Every group has VGG16 in it, so that time for a multiply-accumulate can be compared by rounds. */
export function networkGroups(make: RowMaker, quick: boolean, threads: readonly number[]): Group[] {
  const build = 'relaxed-simd';
  const rows = (model: string): RowPlan[] =>
    (quick ? [1] : [1, 8]).flatMap((batch) => {
      const samples = batch === 1 ? 7 : model === NETWORK ? 5 : 3;
      return threads.map((count) =>
        make.forward(
          'networks',
          `${model}/b${batch}/t${count}`,
          { model, batch, threads: count, build },
          { warmup: 1, samples },
        ),
      );
    });
  const beside = (model: string): RowPlan[] =>
    threads.map((count) =>
      make.forward(
        'networks',
        `${model}/beside-${NETWORK}/t${count}`,
        { threads: count, build },
        { warmup: 1, samples: 7 },
      ),
    );
  return (quick ? [make.network] : MODEL_NAMES).map((model) => ({
    id: `networks/${model}`,
    rows: model === make.network ? rows(model) : [...beside(model), ...rows(model)],
  }));
}

export function backendGroups(make: RowMaker, threads: readonly number[]): Group[] {
  const effort = { warmup: 2, samples: 9 };
  const rows = BUILDS.flatMap((build) =>
    threads.map((count) => make.forward('backends', `wasm-${build}/t${count}`, { build, threads: count }, effort)),
  );
  return [
    { id: 'backends', rows },
    ...threads.map((count) => ({ id: `backends/precision/t${count}`, rows: precisionRows(make, count) })),
  ];
}

/** Low-precision weights beside float32. */
function precisionRows(make: RowMaker, threads: number): RowPlan[] {
  const build = 'relaxed-simd';
  return ([undefined, 'fp16', 'int8', 'int8-int4'] as const).map((precision) =>
    make.forward(
      'backends',
      `${precision ?? 'fp32'}/t${threads}`,
      { build, threads, ...(precision && { precision }) },
      { warmup: 2, samples: 11 },
    ),
  );
}

/** In the order of the table; one that is listed here and not in runtimes/index.ts gives a row that says so. */
export const RUNTIMES: readonly string[] = ['node', 'node24', 'node26', 'deno', 'bun', 'chromium', 'firefox'];

/** The library as it comes, with the build that each runtime takes by itself. */
export function runtimeGroups(make: RowMaker, quick: boolean, threads: readonly number[]): Group[] {
  const effort = quick ? { warmup: 1, samples: 6 } : { warmup: 2, samples: 9 };
  // In a quick run the peers' level has browsers.
  const runtimes = quick ? RUNTIMES.filter((name) => !BROWSERS.includes(name)) : RUNTIMES;
  return (quick ? threads.slice(-1) : threads).map((count) => ({
    id: `runtimes/t${count}`,
    rows: runtimes.map((runtime) => ({
      ...make.forward('runtimes', `${runtime}/t${count}`, { threads: count }, effort),
      ...{ runtime, flags: [] },
    })),
  }));
}

const BROWSERS = ['chromium', 'firefox'];

/** The library beside what people use now: in the main Node, then each runtime's own. */
export function peerGroups(make: RowMaker, quick: boolean, threads: readonly number[]): Group[] {
  const effort = quick ? { warmup: 1, samples: 6 } : { warmup: 2, samples: 9 };
  const peer = (system: SystemName, backend: BackendName, count: number): RowPlan =>
    make.forward('peers', `${system}-${backend}/t${count}`, { system, backend, threads: count }, effort);
  const groups = threads.map((count) => ({
    id: `peers/t${count}`,
    rows: [
      ...(quick ? BUILDS.slice(-1) : BUILDS).map((build) =>
        make.forward('peers', `vggnet-wasm-${build}/t${count}`, { build, threads: count }, effort),
      ),
      peer('onnxruntime-web', 'wasm', count),
      peer('tfjs', 'wasm', count),
      peer('onnxruntime-node', 'native', count),
    ],
  }));
  return [...groups, ...runtimePeerGroups(make, quick, threads)];
}

/** The machine's Node has plain SIMD if it is a Node 20; tfjs has threads in pages alone. */
function runtimePeerGroups(make: RowMaker, quick: boolean, threads: readonly number[]): Group[] {
  const effort = { warmup: 1, samples: 6 };
  const group = (runtime: string, count: number, systems: readonly SystemName[]): Group => ({
    id: `peers/${runtime}/t${count}`,
    rows: systems.map((system) => ({
      ...make.forward('peers', `${runtime}/${system}-wasm/t${count}`, { system, threads: count }, effort),
      ...{ runtime, flags: [] },
    })),
  });
  const pair = ['vggnet', 'onnxruntime-web'] as const;
  if (quick) return BROWSERS.flatMap((runtime) => threads.slice(-1).map((count) => group(runtime, count, pair)));
  return [
    group('node', 1, pair),
    ...['deno', 'bun'].flatMap((runtime) => threads.map((count) => group(runtime, count, pair))),
    ...BROWSERS.flatMap((runtime) => threads.map((count) => group(runtime, count, [...pair, 'tfjs']))),
  ];
}

/** Every sample is a new process: from the weights' path to the first logits, and the most memory on the way. */
export function loadGroups(make: RowMaker): Group[] {
  const systems = [
    ['vggnet', 'wasm'],
    ['onnxruntime-web', 'wasm'],
    ['onnxruntime-node', 'native'],
  ] as const;
  const rows = systems.map(([system, backend]) => ({
    ...make.forward('load', `${system}-${backend}`, { system, backend }, { warmup: 0, samples: 6 }),
    kind: 'load' as const,
  }));
  return [{ id: 'load', rows }];
}

/** Of weights and activations: 546 MiB is the least that VGG16 runs in. */
const MEMORY_LIMIT = 550 * 2 ** 20;

/** What loading takes: the peak of memory by how the model is loaded, and the reader's speed. */
export function weightGroups(make: RowMaker): Group[] {
  const once = { warmup: 0, samples: 3 };
  const load = (name: string, choice: Choice): RowPlan => ({
    ...make.forward('weights', `memory/${name}`, choice, once),
    kind: 'load',
  });
  const reads = (['safetensors', 'pth', 'onnx'] as const).map((format) => ({
    ...make.forward('weights', `read/${format}`, { system: 'reader', format }, { warmup: 1, samples: 5 }),
    ...{ kind: 'reader' as const, macs: 0 },
  }));
  return [
    {
      id: 'weights/memory',
      rows: [
        load('worker', {}),
        load('inline', { inline: true }),
        load('pth', { format: 'pth' }),
        load('worker-limit', { memoryLimit: MEMORY_LIMIT }),
        load('inline-limit', { inline: true, memoryLimit: MEMORY_LIMIT }),
        load('int8-int4', { inline: true, precision: 'int8-int4', stored: true }),
      ],
    },
    { id: 'weights/read', rows: reads },
  ];
}

export function scalingGroups(make: RowMaker, cores: number): Group[] {
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

/** A small input everywhere, and on request the whole one in Chromium. */
export function webgpuGroups(make: RowMaker): Group[] {
  const group = (
    level: Level,
    runtime: string,
    size: number,
    systems: readonly SystemName[],
    effort: Effort,
  ): Group => ({
    id: `${level}/${runtime}`,
    rows: systems.map((system) => ({
      ...make.forward(level, `${runtime}/${system}`, { system, backend: 'webgpu', size }, effort),
      ...{ runtime, flags: [] },
      ...(level === 'webgpu-full' && { timeoutMs: WEBGPU_MS }),
    })),
  });
  const all = ['vggnet', 'onnxruntime-web', 'tfjs'] as const;
  const small = { warmup: 0, samples: 3 };
  return [
    // onnxruntime-web and tfjs have WebGPU for pages.
    group('webgpu', make.runtime, WEBGPU_SIZE, ['vggnet'], small),
    group('webgpu', 'deno', WEBGPU_SIZE, ['vggnet'], small),
    group('webgpu', 'chromium', WEBGPU_SIZE, all, small),
    group('webgpu', 'firefox', WEBGPU_SIZE, all, small),
    group('webgpu-full', 'chromium', SIZE, all, { warmup: 0, samples: 3 }),
  ];
}

interface Choice {
  readonly system?: SystemName;
  readonly backend?: BackendName;
  readonly build?: Build;
  readonly threads?: number;
  readonly precision?: PrecisionName;
  readonly stored?: boolean;
  readonly inline?: boolean;
  readonly memoryLimit?: number;
  readonly format?: WeightFormat;
  readonly model?: string;
  readonly batch?: number;
  readonly size?: number;
}

export class RowMaker {
  readonly #runtime: MainRuntime;
  /** What all systems run, unless a row says another. */
  readonly network: string;

  constructor(runtime: MainRuntime, network: string = NETWORK) {
    this.#runtime = runtime;
    this.network = network;
  }

  /** What runs every row but those that compare runtimes. */
  get runtime(): string {
    return this.#runtime.name;
  }

  job(choice: Choice): Omit<Job, 'files'> {
    return { system: 'vggnet', backend: 'wasm', threads: 1, model: this.network, batch: 1, size: SIZE, ...choice };
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
