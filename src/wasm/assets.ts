import { readAsset } from '../asset.js';
import type { KernelFile } from './kernels.js';
import { type SpawnOptions, spawnNodeWorker, spawnWebWorker, type WorkerHandle } from './spawn.js';

/*
 * The files that lie beside the bundle. Each URL is written out in full, so that bundlers see it and take the file
 * along.
 */

export type { WorkerHandle } from './spawn.js';

const KERNELS: Record<KernelFile, () => URL> = {
  simd: () => new URL('./kernels/simd.wasm', import.meta.url),
  'simd-threads': () => new URL('./kernels/simd-threads.wasm', import.meta.url),
  'relaxed-simd': () => new URL('./kernels/relaxed-simd.wasm', import.meta.url),
  'relaxed-simd-threads': () => new URL('./kernels/relaxed-simd-threads.wasm', import.meta.url),
};

export function readKernels(file: KernelFile): Promise<Uint8Array<ArrayBuffer>> {
  return readAsset(KERNELS[file]());
}

/** Starts the worker script: as a web worker where there are any, else by Node's worker_threads. */
export function spawnWorker(options: SpawnOptions): WorkerHandle {
  if (typeof Worker === 'function') {
    return spawnWebWorker(
      new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'vggnet' }),
      options,
    );
  }
  return spawnNodeWorker(new URL('./worker.js', import.meta.url), options);
}
