import type { Backend, DeviceInfo, Executable, Program } from '../backend.js';
import { VGGNetError } from '../errors.js';
import { hasWorkers } from '../platform/assets.js';
import { chooseBuild, compileKernels, int8Speed, kernelFile } from './kernels.js';
import { hasWholeNumbers, isTransformed, transformedBytes, type WinogradOption } from './plan/algorithm.js';
import { Plans } from './plan/blueprint.js';
import { chooseForms, type MemoryOptions } from './plan/memory.js';
import { WorkerExecutable } from './workers/remote-executable.js';
import { resolveThreads, type Threads } from './workers/threads.js';

export interface WasmOptions {
  /** Run on the caller's thread. Default: only where there are no workers. */
  readonly inline?: boolean | undefined;
  /** Use the build whose results are the same to the bit on every machine. Default false. */
  readonly deterministic?: boolean | undefined;
  /** Use Winograd's method where it is faster (true, the default), never, or always with tiles of one size. */
  readonly winograd?: WinogradOption | undefined;
  /** The most bytes that a model's WebAssembly memory may have. Default: what WebAssembly allows, 4 GiB. */
  readonly memoryLimit?: number | undefined;
  /** Threads that compute. Default 'auto': one for each core, up to 16. */
  readonly threads?: Threads | undefined;
  /** Why this backend was chosen, for `DeviceInfo`. */
  readonly reason: string;
}

/**
 * The kernels of assembly/ in WebAssembly SIMD.
 * @throws VGGNetError `BACKEND_UNAVAILABLE` where WebAssembly SIMD is missing; `INVALID_ARGUMENT`
 */
export function createWasmBackend(options: WasmOptions): Backend {
  checkMemoryLimit(options.memoryLimit);
  const build = chooseBuild(options.deterministic ?? false);
  const inline = options.inline ?? !hasWorkers();
  const { threads, note } = resolveThreads(options.threads ?? 'auto', inline);
  const device: DeviceInfo = { backend: 'wasm', build, threads, inline, reason: options.reason + note };
  const memoryOf = ({ layers }: Program): MemoryOptions => ({
    winograd: options.winograd ?? true,
    threads,
    memoryLimit: options.memoryLimit,
    int8: layers.some(hasWholeNumbers) ? int8Speed(build) : 'none',
  });
  return {
    device,
    async compile(program, parameters, { signal } = {}): Promise<Executable> {
      // Throws before a worker is started if there is too little memory.
      const plans = new Plans(program, memoryOf(program));
      const module = await compileKernels(kernelFile(build, threads, program.layers));
      // Loaded where it is needed: a page has the engine in its worker.
      const made = inline ? (await import('./workers/inline.js')).InlineExecutable : WorkerExecutable;
      return made.compile(module, plans, parameters, signal);
    },
    derivedBytes(program) {
      return chooseForms(program, memoryOf(program)).map((form, index) => {
        const layer = program.layers[index];
        return isTransformed(form) && layer?.op === 'conv2d' ? transformedBytes(layer, form) : 0;
      });
    },
  };
}

function checkMemoryLimit(limit: number | undefined): void {
  if (limit === undefined || (typeof limit === 'number' && limit > 0)) return;
  throw new VGGNetError('INVALID_ARGUMENT', `memoryLimit must be a number of bytes above 0, got ${String(limit)}`);
}
