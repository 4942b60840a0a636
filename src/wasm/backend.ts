import type { Backend, DeviceInfo, Executable } from '../backend.js';
import { WorkerExecutable } from './client.js';
import { InlineExecutable } from './inline.js';
import { chooseBuild, compileKernels } from './kernels.js';
import { hasWorkers } from './spawn.js';
import { resolveThreads, type Threads } from './threads.js';

export interface WasmOptions {
  /** Run on the caller's thread. Default: only where there are no workers. */
  readonly inline?: boolean | undefined;
  /** Use the build whose results are the same to the bit on every machine. Default false. */
  readonly deterministic?: boolean | undefined;
  /** Use Winograd's method where it is faster; its weights take 235 MB more in VGG16. Default true. */
  readonly winograd?: boolean | undefined;
  /** Threads that compute. Default 'auto': one for each core, up to 16. */
  readonly threads?: Threads | undefined;
  /** Why this backend was chosen, for `DeviceInfo`. */
  readonly reason: string;
}

/**
 * The kernels of assembly/ in WebAssembly SIMD.
 * @throws VGGNetError `BACKEND_UNAVAILABLE` where WebAssembly SIMD is missing
 */
export function createWasmBackend(options: WasmOptions): Backend {
  const build = chooseBuild(options.deterministic ?? false);
  const inline = options.inline ?? !hasWorkers();
  const { threads, note } = resolveThreads(options.threads ?? 'auto', inline);
  const device: DeviceInfo = { backend: 'wasm', build, threads, inline, reason: options.reason + note };
  return {
    device,
    async compile(program, parameters, { signal } = {}): Promise<Executable> {
      const module = await compileKernels(threads > 1 ? `${build}-threads` : build);
      return (inline ? InlineExecutable : WorkerExecutable).compile(
        module,
        program,
        { winograd: options.winograd ?? true, threads },
        parameters,
        signal,
      );
    },
  };
}
