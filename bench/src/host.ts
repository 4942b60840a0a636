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
  | { readonly call: 'sample' }
  | { readonly call: 'logits' }
  | { readonly call: 'profile' }
  | { readonly call: 'kernel'; readonly name: string; readonly samples: number };

/**
 * The side of a session on which the system runs. It uses nothing but web standards, so that any runtime can hold it:
 * a process gives it lines (worker.ts), a page function calls.
 */
export class Host {
  #system: LoadedSystem | undefined;
  #kernels: KernelBench | undefined;
  #run: (() => Promise<Float32Array>) | undefined;
  #input = new Float32Array();
  #shape: readonly number[] = [];
  #logits = new Float32Array();

  /** Answers one request; what it gives can be made JSON. */
  async handle(request: Request): Promise<unknown> {
    switch (request.call) {
      case 'open':
        return this.#open(request.job);
      case 'sample':
        return this.#sample();
      case 'logits':
        return [...this.#logits];
      case 'profile':
        return this.#profile();
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
    this.#shape = [job.batch, 3, job.size, job.size];
    this.#input = generatedTensor('input', this.#shape, 'input').data as Float32Array<ArrayBuffer>;
    const start = performance.now();
    this.#system = await system.load(job);
    const loadMs = performance.now() - start;
    this.#run = this.#system.prepare(this.#input, this.#shape);
    this.#logits = (await this.#run()) as Float32Array<ArrayBuffer>;
    const firstMs = performance.now() - start;
    return { system: { ...this.#system.info, ...(adapter && { adapter }) }, loadMs, firstMs };
  }

  async #sample(): Promise<number> {
    const run = started(this.#run);
    const start = performance.now();
    const logits = await run();
    const ms = performance.now() - start;
    // The logits are kept and compared, so no engine can leave the work out.
    this.#logits = logits as Float32Array<ArrayBuffer>;
    return ms;
  }

  async #profile(): Promise<unknown> {
    const system = started(this.#system);
    if (!system.profile) return undefined;
    return system.profile(this.#input, this.#shape);
  }
}

function started<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("A session's first request must be 'open'");
  return value;
}
