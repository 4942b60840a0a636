import relaxedSimd from 'embedded:kernels/relaxed-simd-lowp.wasm';
import relaxedSimdThreads from 'embedded:kernels/relaxed-simd-threads-lowp.wasm';
import simd from 'embedded:kernels/simd-lowp.wasm';
import simdThreads from 'embedded:kernels/simd-threads-lowp.wasm';
import worker from 'embedded:worker.js';
import { compileBytes } from '../wasm/compile.js';
import type { KernelFile } from '../wasm/kernels.js';
import {
  nodeWorkers,
  type SpawnOptions,
  spawnNodeWorker,
  spawnWebWorker,
  startFromText,
  type WorkerHandle,
} from '../wasm/workers/spawn.js';

/*
 * Stands in for assets.ts in `vggnet/inline`, which is one file: the kernels are in it as base64, and the worker's
 * script as text. The `-lowp` builds take all weights.
 */

export { hasWorkers, type WorkerHandle } from '../wasm/workers/spawn.js';

const KERNELS: Record<KernelFile, string> = {
  simd,
  'simd-lowp': simd,
  'simd-threads': simdThreads,
  'simd-threads-lowp': simdThreads,
  'relaxed-simd': relaxedSimd,
  'relaxed-simd-lowp': relaxedSimd,
  'relaxed-simd-threads': relaxedSimdThreads,
  'relaxed-simd-threads-lowp': relaxedSimdThreads,
};

export function loadKernels(file: KernelFile): Promise<WebAssembly.Module> {
  return compileBytes(Uint8Array.from(atob(KERNELS[file]), (character) => character.charCodeAt(0)));
}

/** @throws VGGNetError `BACKEND_UNAVAILABLE` if the runtime refuses */
export function spawnWorker(options: SpawnOptions): WorkerHandle {
  if (!nodeWorkers()) return spawnWebWorker(startFromText(worker), options);
  return spawnNodeWorker(new URL(`data:text/javascript,${encodeURIComponent(worker)}`), options);
}
