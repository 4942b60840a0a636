import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Job, JobFiles } from './job.js';
import { buildLimits } from './limits.js';
import { QUICK_NETWORK } from './network.js';
import type { Group } from './plan.js';
import { goldenReference, type Reference, wholeReference } from './reference.js';
import type { Runtime } from './session.js';
import { prepareStored, prepareWeights, removeWeights, warmFiles, weightFiles } from './weights/files.js';

/** Weights of these networks are kept from run to run; the others' are made again, to save the disk. */
const KEPT = ['vgg16', QUICK_NETWORK];
/** For the loops in float64, which are slow. */
const REFERENCE_MS = 300_000;

/** What groups need on the disk, in `.cache`. */
export class Files {
  readonly #repository: string;
  readonly #cache: string;
  readonly #runtime: Runtime;
  /** By model and size, as far as groups were prepared. */
  readonly #references = new Map<string, Reference | undefined>();

  /** @param runtime computes the logits that PyTorch's stored ones do not cover */
  constructor(benchFolder: string, runtime: Runtime) {
    this.#repository = join(benchFolder, '..');
    this.#cache = join(benchFolder, '.cache');
    this.#runtime = runtime;
  }

  /** Makes what a group's rows read, and has it in the system's memory, so that no row's load pays for the disk. */
  async prepare({ rows }: Group, signal: AbortSignal): Promise<void> {
    if (rows.some(({ kind }) => kind === 'kernel')) {
      await buildLimits(this.#repository, this.#cache);
      return;
    }
    const onnx = rows.some(({ job }) => job.system.startsWith('onnxruntime') || job.format === 'onnx');
    const pth = rows.some(({ job }) => job.format === 'pth');
    const jobs = new Map(rows.map(({ job: { model, size } }) => [`${model} ${size}`, { model, size }]));
    for (const [key, { model, size }] of jobs) {
      const files = await prepareWeights(this.#cache, model, { size, onnx, pth, signal });
      if (!this.#references.has(key)) this.#references.set(key, await this.#findReference(model, size, signal));
      await warmFiles([files.safetensors, ...(onnx ? [files.onnx] : []), ...(pth ? [files.pth] : [])], signal);
    }
    for (const { job } of rows) {
      if (!job.stored || !job.precision) continue;
      await warmFiles([await prepareStored(this.#cache, this.#library, job.model, job.precision, signal)], signal);
    }
  }

  get #library(): string {
    return pathToFileURL(join(this.#repository, 'dist/index.js')).href;
  }

  bytes(job: Omit<Job, 'files'>): number {
    return statSync(this.of(job)[job.format ?? 'safetensors']).size;
  }

  of({ model, size, precision, stored }: Omit<Job, 'files'>): JobFiles {
    const folder = (path: string): string => `${pathToFileURL(path).href}/`;
    return {
      ...weightFiles(this.#cache, model, size, stored ? precision : undefined),
      library: this.#library,
      kernels: folder(join(this.#repository, 'dist/kernels')),
      limits: folder(this.#cache),
    };
  }

  /** The logits that a prepared network's are held against. */
  reference(model: string, size: number): Reference | undefined {
    return this.#references.get(`${model} ${size}`);
  }

  /** PyTorch's where they are stored; else the library's own loops with sums in float64, once. */
  async #findReference(model: string, size: number, signal: AbortSignal): Promise<Reference | undefined> {
    const golden = goldenReference(this.#repository, model, size);
    if (golden) return golden;
    const path = join(this.#cache, `${model}-${size}-logits.json`);
    // A quick run has no time for them.
    const kept = join(this.#repository, 'bench/expected', `${model}-${size}.json`);
    if (existsSync(kept)) return wholeReference(JSON.parse(readFileSync(kept, 'utf8')));
    if (!existsSync(path)) {
      const job = { system: 'vggnet', backend: 'reference', threads: 1, model, batch: 1, size } as const;
      const files = this.of(job);
      const session = await this.#runtime.open({ ...job, files }, { flags: [], timeoutMs: REFERENCE_MS, signal });
      try {
        writeFileSync(path, JSON.stringify([...(await session.logits())]));
      } finally {
        await session.close();
      }
    }
    return wholeReference(JSON.parse(readFileSync(path, 'utf8')));
  }

  /** No later group reads this network's weights. */
  release(model: string): void {
    if (!KEPT.includes(model)) removeWeights(this.#cache, model);
  }
}
