import { compileBytes } from '../wasm/compile.js';
import type { KernelFile } from '../wasm/kernels.js';
import {
  nodeWorkers,
  type SpawnOptions,
  spawnNodeWorker,
  spawnWebWorker,
  startFromText,
  type WorkerHandle,
  workerRefused,
} from '../wasm/workers/spawn.js';
import { readAsset } from './asset.js';

/*
 * The files that lie beside the bundle. Each URL is written out in full, so that bundlers see it and take the file
 * along. The builds that have no files beside them take assets-workerd.ts or assets-inline.ts instead.
 */

export { hasWorkers, type WorkerHandle } from '../wasm/workers/spawn.js';

const KERNELS: Record<KernelFile, () => URL> = {
  simd: () => new URL('./kernels/simd.wasm', import.meta.url),
  'simd-lowp': () => new URL('./kernels/simd-lowp.wasm', import.meta.url),
  'simd-threads': () => new URL('./kernels/simd-threads.wasm', import.meta.url),
  'simd-threads-lowp': () => new URL('./kernels/simd-threads-lowp.wasm', import.meta.url),
  'relaxed-simd': () => new URL('./kernels/relaxed-simd.wasm', import.meta.url),
  'relaxed-simd-lowp': () => new URL('./kernels/relaxed-simd-lowp.wasm', import.meta.url),
  'relaxed-simd-threads': () => new URL('./kernels/relaxed-simd-threads.wasm', import.meta.url),
  'relaxed-simd-threads-lowp': () => new URL('./kernels/relaxed-simd-threads-lowp.wasm', import.meta.url),
};

export async function loadKernels(file: KernelFile): Promise<WebAssembly.Module> {
  return compileBytes(await readAsset(KERNELS[file]()));
}

/**
 * Starts the worker script: by Node's worker_threads where it is a file of the disk, else as a web worker. Deno has
 * both, and its web workers keep the process alive, even when ended in `Atomics.wait`.
 * @throws VGGNetError `BACKEND_UNAVAILABLE` if the runtime refuses
 */
export function spawnWorker(options: SpawnOptions): WorkerHandle {
  if (nodeWorkers() && import.meta.url.startsWith('file:')) {
    return spawnNodeWorker(new URL('./worker.js', import.meta.url), options);
  }
  const foreign = foreignScript();
  return spawnWebWorker(foreign ? startFromText(`import ${JSON.stringify(foreign)};`) : startScript(), options);
}

function startScript(): Worker {
  try {
    return new Worker(new URL('./worker.js', import.meta.url), { type: 'module', name: 'vggnet' });
  } catch (error) {
    throw workerRefused(error);
  }
}

/**
 * The worker script's URL if it is of another origin than the page, such as a CDN's: a page may not start it, but a
 * worker of the page's own may import it.
 */
function foreignScript(): string | undefined {
  // Not written as above: bundlers would take the script along a second time.
  const { url } = import.meta;
  const { href, origin, protocol } = new URL('./worker.js', url);
  const page = globalThis.location?.origin;
  return protocol.startsWith('http') && page !== undefined && page !== origin ? href : undefined;
}
