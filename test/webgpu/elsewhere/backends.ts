import type { BackendUnderTest } from '../../support/backends.js';
import { webgpu } from '../../support/webgpu.js';

/* Stands in for support/backends.ts where the suites run in another runtime: WebGPU is what is tested there. */

export const BACKENDS: readonly BackendUnderTest[] = [
  { name: 'webgpu', create: () => webgpu(), tolerance: { atol: 1e-3, rtol: 1e-3 }, slow: true },
];
export const FAST_BACKENDS: readonly BackendUnderTest[] = BACKENDS;
export const NETWORK_BACKENDS: readonly BackendUnderTest[] = BACKENDS;
