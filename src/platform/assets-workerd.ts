import { VGGNetError } from '../errors.js';
import type { KernelFile } from '../wasm/kernels.js';
import type { WorkerHandle } from '../wasm/workers/spawn.js';
import relaxedSimd from './kernels/relaxed-simd-training.wasm';
import simd from './kernels/simd-training.wasm';

/*
 * Stands in for assets.ts where `workerd` resolves the package: it compiles no bytes, so the kernels are modules
 * that it links in, and it has no workers and no shared memory. The `-training` builds do what all others do.
 */

export type { WorkerHandle } from '../wasm/workers/spawn.js';

const KERNELS: Partial<Record<KernelFile, WebAssembly.Module>> = {
  simd,
  'simd-lowp': simd,
  'simd-training': simd,
  'relaxed-simd': relaxedSimd,
  'relaxed-simd-lowp': relaxedSimd,
  'relaxed-simd-training': relaxedSimd,
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
