import { readFile } from 'node:fs/promises';
import { type SpawnOptions, spawnNodeWorker, type WorkerHandle } from '../../src/wasm/workers/spawn.js';

/*
 * Stands in for src/platform/assets.ts where the sources are tested: what lies beside the bundle is in dist/.
 */

export type { WorkerHandle };

const dist = new URL('../../dist/', import.meta.url);

export async function loadKernels(build: string): Promise<WebAssembly.Module> {
  return WebAssembly.compile(new Uint8Array(await readFile(new URL(`kernels/${build}.wasm`, dist))));
}

export function hasWorkers(): boolean {
  return true;
}

export function spawnWorker(options: SpawnOptions): WorkerHandle {
  return spawnNodeWorker(new URL(options.training ? 'worker-training.js' : 'worker.js', dist), options);
}
