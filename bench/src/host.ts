import { generatedTensor } from '../../test/support/generated.js';
import { adapterName } from './gpu.js';
import type { Job } from './job.js';
import { KernelBench } from './kernels/measure.js';
import type { Opened } from './session.js';
import { importSystem } from './systems/index.js';
import type { LoadedSystem } from './systems/system.js';

/** What a session may be asked, as it goes over a process's pipe or into a page. */
export type Request =
  | { readonly call: 'open'; readonly job: Job }
  | { readonly call: 'first'; readonly batch: number }
  | { readonly call: 'sample'; readonly batch: number }
  | { readonly call: 'logits'; readonly batch: number }
  | { readonly call: 'profile'; readonly batch: number }
  | { readonly call: 'kernel'; readonly name: string; readonly samples: number };

/**
 * The side of a session on which the system runs. It uses nothing but web standards, so that any runtime can hold it:
 * a process gives it lines (worker.ts), a page function calls.
 */
export class Host {
  #job: Job | undefined;
  #system: LoadedSystem | undefined;
  #kernels: KernelBench | undefined;
  readonly #batches = new Map<number, Batch>();

  /** Answers one request; what it gives can be made JSON. */
  async handle(request: Request): Promise<unknown> {
    switch (request.call) {
      case 'open':
        return this.#open(request.job);
      case 'first':
        this.#batches.set(request.batch, this.#input(request.batch));
        return this.#sample(request.batch);
      case 'sample':
        return this.#sample(request.batch);
      case 'logits':
        return [...started(this.#batches.get(request.batch)).logits];
      case 'profile':
        return this.#profile(request.batch);
      case 'kernel':
        return started(this.#kernels).measure(request.name, request.samples);
    }
  }

  async #open(job: Job): Promise<Opened> {
    if (job.system === 'kernels') {
      const start = performance.now();
      this.#kernels = await KernelBench.create(job);
      const loadMs = performance.now() - start;
      return { system: { version: 'this commit', build: job.build ?? '', threads: 1 }, loadMs, firstMs: loadMs };
    }
    const webgpu = job.backend === 'webgpu';
    const adapter = webgpu && (await adapterName());
    const system = await importSystem(job.system);
    this.#job = job;
    const batch = this.#input(job.batch);
    const start = performance.now();
    this.#system = await system.load(job);
    const loadMs = performance.now() - start;
    this.#batches.set(job.batch, batch);
    await this.#sample(job.batch);
    const firstMs = performance.now() - start;
    return { system: { ...this.#system.info, ...(adapter && { adapter }) }, loadMs, firstMs };
  }

  #input(batch: number): Batch {
    const { size } = started(this.#job);
    const shape = [batch, 3, size, size];
    return { shape, input: generatedTensor('input', shape, 'input').data, logits: new Float32Array() };
  }

  async #sample(count: number): Promise<number> {
    const batch = started(this.#batches.get(count));
    const start = performance.now();
    batch.run ??= started(this.#system).prepare(batch.input, batch.shape);
    const logits = await batch.run();
    const ms = performance.now() - start;
    // The logits are kept and compared, so no engine can leave the work out.
    batch.logits = logits;
    return ms;
  }

  async #profile(count: number): Promise<unknown> {
    const system = started(this.#system);
    const { input, shape } = started(this.#batches.get(count));
    return system.profile?.(input, shape);
  }
}

/** An input, how it is run, and what came out last. */
interface Batch {
  readonly shape: readonly number[];
  readonly input: Float32Array;
  run?: () => Promise<Float32Array>;
  logits: Float32Array;
}

function started<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("A session's first request must be 'open'");
  return value;
}
