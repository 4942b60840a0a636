import type { Backend } from '../../src/backend.js';
import { createReferenceBackend } from '../../src/reference/backend.js';
import { createWasmBackend, type WasmOptions } from '../../src/wasm/backend.js';

export interface BackendUnderTest {
  readonly name: string;
  create(): Promise<Backend>;
}

const wasm = (options: Omit<WasmOptions, 'reason'>): Promise<Backend> =>
  Promise.resolve(createWasmBackend({ ...options, reason: 'asked for by a test' }));

/** Every backend and kernel build; tests run once for each. */
export const BACKENDS: readonly BackendUnderTest[] = [
  { name: 'reference', create: async () => createReferenceBackend() },
  { name: 'wasm simd', create: () => wasm({ deterministic: true, inline: true }) },
  { name: 'wasm simd, direct', create: () => wasm({ deterministic: true, inline: true, winograd: false }) },
  { name: 'wasm relaxed-simd', create: () => wasm({ inline: true }) },
];

/** Those that are compared with the reference, and are fast enough for whole networks. */
export const FAST_BACKENDS: readonly BackendUnderTest[] = BACKENDS.filter(({ name }) => name !== 'reference');
