import { readAsset } from '../asset.js';
import type { KernelBuild } from './kernels.js';
import { type SpawnOptions, spawnNodeWorker, spawnWebWorker, type WorkerHandle } from './spawn.js';

/*
 * The files that lie beside the bundle. Each URL is written out in full, so that bundlers see it and take the file
 * along.
 */

export type { WorkerHandle } from './spawn.js';

export function readKernels(build: KernelBuild): Promise<Uint8Array<ArrayBuffer>> {
  return readAsset(
    build === 'simd'
      ? new URL('./kernels/simd.wasm', import.meta.url)
      : new URL('./kernels/relaxed-simd.wasm', import.meta.url),
  );
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
