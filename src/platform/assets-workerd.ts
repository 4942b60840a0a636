import { VGGNetError } from '../errors.js';
import type { KernelFile } from '../wasm/kernels.js';
import type { WorkerHandle } from '../wasm/workers/spawn.js';
import relaxedSimd from './kernels/relaxed-simd-lowp.wasm';
import simd from './kernels/simd-lowp.wasm';

/*
 * Stands in for assets.ts where `workerd` resolves the package: it compiles no bytes, so the kernels are modules
 * that it links in, and it has no workers and no shared memory. The `-lowp` builds take all weights.
 */

export type { WorkerHandle } from '../wasm/workers/spawn.js';

const KERNELS: Partial<Record<KernelFile, WebAssembly.Module>> = {
  simd,
  'simd-lowp': simd,
  'relaxed-simd': relaxedSimd,
  'relaxed-simd-lowp': relaxedSimd,
};

export async function loadKernels(file: KernelFile): Promise<WebAssembly.Module> {
  const module = KERNELS[file];
  if (!module) throw new VGGNetError('BACKEND_UNAVAILABLE', `An edge worker has no threads, which '${file}' needs`);
  return module;
}

export function hasWorkers(): boolean {
  return false;
}

export function spawnWorker(): WorkerHandle {
  throw new VGGNetError('BACKEND_UNAVAILABLE', 'An edge worker starts no workers; leave out inline: false');
}
