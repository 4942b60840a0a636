import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { JobFiles } from './job.js';
import { buildLimits } from './limits.js';
import type { Group } from './plan.js';
import { goldenReference, type Reference } from './reference.js';
import { prepareWeights, removeWeights, warmFiles, weightFiles } from './weights/files.js';

/** Weights of this network are kept from run to run; the others' are made anew, to save the disk. */
const KEPT = 'vgg16';

/** What groups need on the disk, in `.cache`. */
export class Files {
  readonly #repository: string;
  readonly #cache: string;

  constructor(benchFolder: string) {
    this.#repository = join(benchFolder, '..');
    this.#cache = join(benchFolder, '.cache');
  }

  /** Makes what a group's rows read, and has it in the system's memory, so that no row's load pays for the disk. */
  async prepare({ rows }: Group, signal: AbortSignal): Promise<void> {
    if (rows.some(({ kind }) => kind === 'kernel')) {
      await buildLimits(this.#repository, this.#cache);
      return;
    }
    const onnx = rows.some(({ job }) => job.system.startsWith('onnxruntime'));
    for (const model of new Set(rows.map(({ job }) => job.model))) {
      const files = await prepareWeights(this.#cache, model, { onnx, signal });
      await warmFiles(onnx ? [files.safetensors, files.onnx] : [files.safetensors], signal);
    }
  }

  of(model: string): JobFiles {
    const folder = (path: string): string => `${pathToFileURL(path).href}/`;
    return {
      ...weightFiles(this.#cache, model),
      library: pathToFileURL(join(this.#repository, 'dist/index.js')).href,
      kernels: folder(join(this.#repository, 'dist/kernels')),
      limits: folder(this.#cache),
    };
  }

  /** The logits that a network's are held against. */
  reference(model: string, size: number): Reference | undefined {
    return goldenReference(this.#repository, model, size);
  }

  /** No later group reads this network's weights. */
  release(model: string): void {
    if (model !== KEPT) removeWeights(this.#cache, model);
  }
}
