import type { Backend } from '../../src/backend.js';
import { createReferenceBackend } from '../../src/reference/backend.js';
import { createWasmBackend, type WasmOptions } from '../../src/wasm/backend.js';
import type { Tolerance } from './close.js';
import { createThreadedBackend, type ThreadedOptions } from './threaded.js';
import { webgpu } from './webgpu.js';

export interface BackendUnderTest {
  readonly name: string;
  create(): Promise<Backend>;
  /** What is allowed of whole networks; default `NETWORK_TOLERANCE`. */
  readonly tolerance?: Tolerance;
  /** On a driver that computes on the CPU: whole networks run one small image each. */
  readonly slow?: boolean;
}

const wasm = (options: Omit<WasmOptions, 'reason'>): Promise<Backend> =>
  Promise.resolve(createWasmBackend({ ...options, reason: 'asked for by a test' }));

const threaded = (options: ThreadedOptions): Promise<Backend> => Promise.resolve(createThreadedBackend(options));

/** What the project promises of a GPU in fp32, whose compilers contract and reassociate sums. */
export const GPU_TOLERANCE: Tolerance = { atol: 1e-3, rtol: 1e-3 };

/**
 * Every backend, and of the wasm backend every kernel build, by Winograd's method and without; tests run once for each.
 * That any other number of threads gives the same bits is for wasm/threads.test.ts.
 */
export const BACKENDS: readonly BackendUnderTest[] = [
  { name: 'reference', create: async () => createReferenceBackend() },
  { name: 'wasm simd', create: () => wasm({ deterministic: true, inline: true }) },
  { name: 'wasm simd, direct', create: () => wasm({ deterministic: true, inline: true, winograd: false }) },
  { name: 'wasm relaxed-simd', create: () => wasm({ inline: true }) },
  { name: 'wasm relaxed-simd, direct', create: () => wasm({ inline: true, winograd: false }) },
  { name: 'wasm simd, 2 threads', create: () => threaded({ build: 'simd', threads: 2 }) },
  { name: 'wasm simd, direct, 3 threads', create: () => threaded({ build: 'simd', threads: 3, winograd: false }) },
  { name: 'wasm relaxed-simd, 3 threads', create: () => threaded({ build: 'relaxed-simd', threads: 3 }) },
  {
    name: 'wasm relaxed-simd, direct, 2 threads',
    create: () => threaded({ build: 'relaxed-simd', threads: 2, winograd: false }),
  },
  { name: 'webgpu', create: () => webgpu(), tolerance: GPU_TOLERANCE, slow: true },
];

/** Those that are compared with the reference, and are fast enough for whole networks. */
export const FAST_BACKENDS: readonly BackendUnderTest[] = BACKENDS.filter(({ name }) => name !== 'reference');

/** Those that run the whole networks: with threads, which are faster and give the same bits, where direct ones are slow. */
export const NETWORK_BACKENDS: readonly BackendUnderTest[] = FAST_BACKENDS.filter(
  ({ name }) => name !== 'wasm simd, direct' && name !== 'wasm relaxed-simd, direct',
);
