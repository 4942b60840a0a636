import { generatedTensor } from '../../test/support/generated.js';
import type { BackendName } from '../src/job.js';
import type { Row } from '../src/record.js';
import { summarise } from '../src/summarise.js';

/*
 * The backends' part of the suite, for a page: the same rows as the command writes, of models with random weights.
 */

type Library = Pick<typeof import('../../src/index.js'), 'VGGNet' | 'Tensor'>;
type Model = Awaited<ReturnType<Library['VGGNet']['create']>>;

/** One row to be measured. */
export interface Variant {
  readonly backend: BackendName;
  /** A kernel build that the library must take. */
  readonly build?: 'simd' | 'relaxed-simd';
  readonly threads: number;
}

export interface Plan {
  readonly model: string;
  readonly seed: number;
  readonly samples: number;
  readonly variants: readonly Variant[];
  /** Hold all models at once and sample them in turn; else one after the other, each disposed of before the next. */
  readonly together: boolean;
}

export interface Options {
  /** The library's built entry. */
  readonly library: string;
  readonly commit: string;
  readonly signal: AbortSignal;
  /** The share that is done, and what is under way. */
  readonly onProgress: (share: number, what: string) => void;
  /** All rows so far, after every sample. */
  readonly onRows: (rows: readonly PageRow[]) => void;
}

/** A row of the suite, with what the model says of its device. */
export interface PageRow extends Row {
  readonly device?: string | undefined;
}

export const WARMUP = 2;
/** Between two samples, for threads that still spin after the last one. */
const REST_MS = 20;

interface State {
  readonly variant: Variant;
  readonly samples: number[];
  model?: Model;
  row?: Partial<PageRow>;
  logits?: Float32Array;
  macs: number;
  forward?: () => Promise<Float32Array>;
  failure?: string;
}

/** Measures every variant. One that fails has the reason in its row; an interrupt keeps the samples that are there. */
export async function measure(plan: Plan, options: Options): Promise<PageRow[]> {
  return new Measurement(plan, options).run();
}

class Measurement {
  readonly #plan: Plan;
  readonly #options: Options;
  readonly #states: State[];
  /** Rows of one run and group are paired. */
  readonly #date = new Date().toISOString();
  #steps = 0;

  constructor(plan: Plan, options: Options) {
    this.#plan = plan;
    this.#options = options;
    this.#states = plan.variants.map((variant) => ({ variant, samples: [], macs: 0 }));
  }

  async run(): Promise<PageRow[]> {
    const groups = this.#plan.together ? [this.#states] : this.#states.map((state) => [state]);
    try {
      for (const group of groups) {
        await this.#group(group);
        for (const { model } of group) model?.dispose();
      }
    } finally {
      for (const { model } of this.#states) model?.dispose();
    }
    const rows = this.#rows();
    this.#options.onRows(rows);
    return rows;
  }

  async #group(group: readonly State[]): Promise<void> {
    for (const state of group) {
      await this.#attempt(state, `loading ${this.#plan.model} for ${nameOf(state.variant)}`, () => this.#load(state));
    }
    for (let round = 0; round < WARMUP + this.#plan.samples; round++) {
      for (const state of group) {
        const what = round < WARMUP ? 'warm-up' : `sample ${round - WARMUP + 1} of ${this.#plan.samples}`;
        await this.#attempt(state, `${nameOf(state.variant)}: ${what}`, async () => {
          await new Promise((resolve) => setTimeout(resolve, REST_MS));
          const start = performance.now();
          state.logits = await (state.forward as () => Promise<Float32Array>)();
          const ms = performance.now() - start;
          if (round >= WARMUP) state.samples.push(ms);
        });
      }
    }
  }

  /** Does one step of a row, unless an earlier one failed or the user stopped it all. */
  async #attempt(state: State, what: string, step: () => Promise<void>): Promise<void> {
    const { signal, onProgress, onRows } = this.#options;
    if (signal.aborted) return;
    onProgress(this.#share(), what);
    if (state.failure === undefined) {
      try {
        await step();
      } catch (error) {
        if (!signal.aborted) state.failure = error instanceof Error ? error.message : String(error);
      }
    }
    this.#steps++;
    onProgress(this.#share(), what);
    onRows(this.#rows());
  }

  #share(): number {
    return this.#steps / (this.#states.length * (1 + WARMUP + this.#plan.samples));
  }

  async #load(state: State): Promise<void> {
    const { library, signal } = this.#options;
    const { model: name, seed } = this.#plan;
    const { backend, build, threads } = state.variant;
    const { VGGNet, Tensor } = (await import(library)) as Library;
    const start = performance.now();
    const model = await VGGNet.create(name, {
      device: backend === 'webgpu' ? 'webgpu' : 'wasm',
      deterministic: build === 'simd',
      threads,
      seed,
      signal,
    });
    state.model = model;
    const loadMs = performance.now() - start;
    const { device } = model;
    if (build && device.build !== build) {
      throw new Error(`this browser does not have the ${build} build; the library took ${device.build}`);
    }
    if (backend === 'wasm' && device.threads !== threads) {
      throw new Error(`asked for ${threads} threads, the library runs on ${device.threads} (${device.reason})`);
    }
    const { inputShape, macs, layers, parameterBytes } = model.summary();
    const input = new Tensor(generatedTensor('input', inputShape, 'input').data, inputShape);
    state.macs = macs;
    state.forward = async () => (await model.forward(input, { signal })).data;
    const first = performance.now();
    state.logits = await state.forward();
    // Each layer's input and output once; ReLU and batch norm are fused, and move nothing of their own.
    const moving = layers.filter(({ op }) => op === 'conv2d' || op === 'linear' || op === 'maxPool2d');
    const sizes = [4 * input.size, ...moving.map(({ outputBytes }) => outputBytes)];
    state.row = {
      build: device.build,
      threads: device.threads,
      input: inputShape,
      device: `${device.backend} ${device.build}${device.inline ? ', inline' : ', in a worker'}: ${device.reason}`,
      bytes: parameterBytes + 2 * sizes.reduce((sum, size) => sum + size, 0) - (sizes[0] ?? 0) - (sizes.at(-1) ?? 0),
      loadMs: Math.round(loadMs),
      firstMs: Math.round(loadMs + performance.now() - first),
    };
  }

  #rows(): PageRow[] {
    const { model, together } = this.#plan;
    const { signal, commit } = this.#options;
    const reference = this.#states.find(({ logits, failure }) => logits && failure === undefined);
    return this.#states
      .filter(({ samples, failure }) => samples.length > 0 || failure !== undefined)
      .map((state): PageRow => {
        const { variant, samples, failure, row, logits } = state;
        const id = `backends/page/${model}/${nameOf(variant).replace(', ', '/')}`;
        return {
          id,
          level: 'backends',
          group: together ? `backends/page/${model}` : id,
          date: this.#date,
          commit,
          ...describeBrowser(),
          system: { name: 'vggnet', version: 'this commit' },
          backend: variant.backend,
          build: variant.build ?? '',
          threads: variant.threads,
          network: model,
          batch: 1,
          input: [],
          warmup: WARMUP,
          ...summarise(failure === undefined ? samples : [], state.macs),
          bytes: 0,
          ...row,
          ...(reference?.logits && logits && failure === undefined && compare(logits, reference)),
          ...(signal.aborted && { interrupted: true }),
          ...(failure !== undefined && { skipped: failure }),
        };
      });
  }
}

/** Such as `wasm-simd, t2`. */
export function nameOf({ backend, build, threads }: Variant): string {
  return backend === 'webgpu' ? backend : `${backend}${build ? `-${build}` : ''}, t${threads}`;
}

/**
 * There is no PyTorch here, but builds and threads must agree with each other. The tolerance goes by the largest
 * logit, as random weights of PyTorch's initialization make all of them small.
 */
function compare(logits: Float32Array, reference: State): Partial<Row> {
  const expected = reference.logits as Float32Array;
  let error = logits.length === expected.length ? 0 : Number.POSITIVE_INFINITY;
  let largest = 0;
  for (const [i, value] of expected.entries()) {
    largest = Math.max(largest, Math.abs(value));
    const off = Math.abs((logits[i] ?? Number.NaN) - value);
    error = Math.max(error, Number.isNaN(off) ? Number.POSITIVE_INFINITY : off);
  }
  return { error, wrong: !(error <= 1e-4 * largest), reference: `the page's row ${nameOf(reference.variant)}` };
}

/** What a page is told of where it runs. */
function describeBrowser(): Pick<Row, 'machine' | 'runtime'> {
  const { hardwareConcurrency, deviceMemory, platform, userAgent, userAgentData } = navigator as Navigator & {
    deviceMemory?: number;
    userAgentData?: { platform: string };
  };
  return {
    machine: {
      cpu: 'not told to pages',
      cores: hardwareConcurrency,
      // Browsers round it and some do not tell, which is null as JSON.
      memoryGiB: deviceMemory ?? Number.NaN,
      os: userAgentData?.platform || platform,
    },
    runtime: { name: 'browser', version: userAgent, flags: [] },
  };
}
