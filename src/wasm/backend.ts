import type { Backend, DeviceInfo, Executable, ParameterStream, Program } from '../backend.js';
import { VGGNetError } from '../errors.js';
import { hasWorkers } from '../platform/assets.js';
import type { MakeAutograd } from './autograd.js';
import { chooseBuild, compileKernels, int8Speed, kernelFile } from './build.js';
import { hasIntegerWeights, isTransformed, transformedBytes, type WinogradOption } from './plan/algorithm.js';
import { chooseAlgorithms, type MemoryOptions } from './plan/memory.js';
import { PlanCache } from './plan/plan-cache.js';
import { RemoteExecutable } from './workers/remote-executable.js';
import { resolveThreads, type Threads } from './workers/threads.js';

export interface WasmOptions {
  /** Run on the caller's thread. Default: only where the runtime has no workers. */
  readonly inline?: boolean | undefined;
  /** Use the build whose results are the same to the bit on every machine. Default false. */
  readonly deterministic?: boolean | undefined;
  /** Winograd's method: where it is faster (true, the default), never (false), or always with tiles of one size. */
  readonly winograd?: WinogradOption | undefined;
  /** Most bytes of a model's WebAssembly memory. Default: 4 GiB, the limit of WebAssembly. */
  readonly memoryLimit?: number | undefined;
  /** Threads that compute. Default 'auto': one per core, up to 16. */
  readonly threads?: Threads | undefined;
  /** Why this backend was chosen, for `DeviceInfo`. */
  readonly reason: string;
}

/**
 * The backend that runs the WebAssembly SIMD kernels of assembly/.
 * @throws VGGNetError `BACKEND_UNAVAILABLE` where WebAssembly SIMD is missing; `INVALID_ARGUMENT` for a bad option
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
    int8: layers.some(hasIntegerWeights) ? int8Speed(build) : 'none',
  });
  /** As `compile`, for a program with gradients, by code that is loaded on demand. */
  const compileTraining = async (
    program: Program,
    parameters: ParameterStream,
    gradients: ReadonlySet<string>,
    signal: AbortSignal | undefined,
  ): Promise<Executable> => {
    const { float32Program, WasmAutograd } = await import('./autograd.js');
    const { gradientBytes } = await import('./plan/gradient-bytes.js');
    const plain = float32Program(program);
    const memory = { ...memoryOf(plain), gradientBytes: gradientBytes(plain.layers, gradients) };
    const plans = new PlanCache(plain, memory, gradients);
    const module = await compileKernels(kernelFile(build, threads, plain.layers, true));
    const makeAutograd: MakeAutograd = (ask) => new WasmAutograd(plans, memory.winograd, ask);
    if (!inline) return RemoteExecutable.compile(module, plans, parameters, signal, makeAutograd);
    const { InlineExecutable } = await import('./workers/inline.js');
    const { makeTraining } = await import('./workers/training.js');
    return InlineExecutable.compile(module, plans, parameters, signal, { makeAutograd, makeTraining });
  };
  return {
    device,
    hasGradients: true,
    async compile(program, parameters, { signal, gradients } = {}): Promise<Executable> {
      if (gradients) return compileTraining(program, parameters, gradients, signal);
      // Throws before a worker is started if there is too little memory.
      const plans = new PlanCache(program, memoryOf(program));
      const module = await compileKernels(kernelFile(build, threads, program.layers));
      // Loaded on demand: a page has the engine in its worker.
      const executable = inline ? (await import('./workers/inline.js')).InlineExecutable : RemoteExecutable;
      return executable.compile(module, plans, parameters, signal);
    },
    derivedBytes(program) {
      return chooseAlgorithms(program, memoryOf(program)).map((algorithm, index) => {
        const layer = program.layers[index];
        return isTransformed(algorithm) && layer?.op === 'conv2d' ? transformedBytes(layer, algorithm) : 0;
      });
    },
  };
}

function checkMemoryLimit(limit: number | undefined): void {
  if (limit === undefined || (typeof limit === 'number' && limit > 0)) return;
  throw new VGGNetError('INVALID_ARGUMENT', `memoryLimit must be a number of bytes above 0, got ${String(limit)}`);
}
