import { Bench } from 'tinybench';
import { readAsset } from '../../../src/platform/asset.js';
import { type Job, Unavailable } from '../job.js';
import { Arena, type Exports } from './arena.js';
import { type KernelCase, type KernelSamples, kernelCases, PEAK, readsMemory, STREAM, STREAM_BYTES } from './cases.js';

/** Calls of the tile in one sample: some milliseconds. */
const PEAK_CALLS = 4000;
const WARMUP = 2;

/** More samples are taken while this has not passed, for kernels that take microseconds. */
const TIME_MS = 60;

/** The kernels of one build, each over a memory of its own. */
export class KernelBench {
  readonly #kernels: WebAssembly.Module;
  readonly #limits: Arena;
  readonly #peakBuffer: number;
  /** Address of STREAM_BYTES, once they were needed. */
  #streamed: number | undefined;

  private constructor(kernels: WebAssembly.Module, limits: Arena) {
    this.#kernels = kernels;
    this.#limits = limits;
    this.#peakBuffer = limits.random(limits.constant('PEAK_BYTES') / 4);
  }

  static async create(job: Job): Promise<KernelBench> {
    const compile = async (folder: string, file: string): Promise<WebAssembly.Module> => {
      const bytes = await readAsset(new URL(file, folder));
      if (!WebAssembly.validate(bytes)) throw new Unavailable(`this runtime does not validate the ${job.build} build`);
      return WebAssembly.compile(bytes);
    };
    const kernels = await compile(job.files.kernels, `${job.build}.wasm`);
    const limits = await compile(job.files.limits, `limits-${job.build}.wasm`);
    return new KernelBench(kernels, await Arena.create(limits));
  }

  async measure(name: string, iterations: number): Promise<KernelSamples> {
    const peakMacs = PEAK_CALLS * this.#limits.constant('MR') * 8 * this.#limits.constant('K');
    if (name === PEAK) {
      const samples = this.#peak(iterations);
      return { samples, warmup: WARMUP, peakSamples: samples, peakMacs, error: 0 };
    }
    if (name === STREAM) {
      const samples = this.#stream(iterations);
      return { samples, warmup: WARMUP, peakSamples: [], error: 0 };
    }
    const found = kernelCases().find((one) => one.name === name);
    if (!found) throw new Unavailable(`there is no kernel case ${name}`);
    const limit = readsMemory(found)
      ? { peakSamples: this.#stream(iterations), peakBytes: STREAM_BYTES }
      : { peakSamples: this.#peak(iterations), peakMacs };
    return { ...(await this.#measureCase(found, iterations)), ...limit };
  }

  async #measureCase(
    one: KernelCase,
    iterations: number,
  ): Promise<Pick<KernelSamples, 'samples' | 'warmup' | 'error'>> {
    const arena = await Arena.create(this.#kernels);
    if (arena.kernels[one.needs] === undefined) throw new Unavailable(`this build has no kernel '${one.needs}'`);
    const prepared = one.setup(arena);
    const samples = time(() => prepared.run(), iterations);
    return { samples, warmup: WARMUP, error: prepared.error() };
  }

  #peak(iterations: number): number[] {
    const { peak } = this.#limits.kernels as Exports;
    return time(() => void peak?.(this.#peakBuffer, PEAK_CALLS), iterations);
  }

  #stream(iterations: number): number[] {
    this.#streamed ??= this.#writeStream();
    const from = this.#streamed;
    let sum = 0;
    const samples = time(() => {
      sum += this.#limits.kernels.streamRead?.(from, STREAM_BYTES) ?? 0;
    }, iterations);
    if (!(sum > 0)) throw new Error('The stream of reads gave no sum');
    return samples;
  }

  #writeStream(): number {
    const values = STREAM_BYTES / 4;
    const from = this.#limits.zeros(values);
    this.#limits.f32.fill(1e-6, from / 4, from / 4 + values);
    return from;
  }
}

/** All samples of a function, at least `iterations`, in milliseconds, sorted. V8 has compiled it for good after the warm-up. */
function time(run: () => void, iterations: number): number[] {
  const bench = new Bench({
    iterations,
    time: TIME_MS,
    warmupIterations: WARMUP,
    warmupTime: 0,
    retainSamples: true,
    throws: true,
  });
  bench.add('run', run, { async: false });
  bench.runSync();
  const { result } = bench.tasks[0] ?? {};
  if (!result || !('latency' in result)) throw new Error(`tinybench gave no times: ${result?.state}`);
  return [...(result.latency.samples ?? [])];
}
