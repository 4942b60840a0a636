import type { Backend } from './backend.js';
import { VGGNetError } from './errors.js';
import { createReferenceBackend } from './reference/backend.js';
import { createWasmBackend } from './wasm/backend.js';
import type { Threads } from './wasm/threads.js';

/** What a model may be asked to run on. */
export type DeviceName = 'auto' | 'wasm' | 'webgpu' | 'reference';

const DEVICE_NAMES: readonly DeviceName[] = ['auto', 'wasm', 'webgpu', 'reference'];

export interface DeviceOptions {
  /** Default 'auto'. A device that is not here is an error, never replaced by another. */
  device?: DeviceName | undefined;
  /** Run a forward on the caller's own thread, not in a worker. Default: only where there are no workers. */
  inline?: boolean | undefined;
  /** Use the kernels whose results are the same to the bit on every machine; somewhat slower. Default false. */
  deterministic?: boolean | undefined;
  /** Threads that compute, 1 to 256. Default 'auto': one for each core, up to 16; one where memory can't be shared. */
  threads?: Threads | undefined;
  /** Use Winograd's method for convolutions where it is faster; VGG16's weights take 235 MB more. Default true. */
  winograd?: boolean | undefined;
}

/**
 * Finds the backend for a device.
 * @throws VGGNetError `INVALID_ARGUMENT` for an unknown name; `BACKEND_UNAVAILABLE` if it is not here
 */
export function createBackend({ device = 'auto', ...options }: DeviceOptions): Backend {
  const { inline, deterministic, winograd, threads } = options;
  const wasm = { inline, deterministic, winograd, threads };
  switch (device) {
    case 'auto':
      return createWasmBackend({ ...wasm, reason: 'auto: the fastest backend of this version' });
    case 'wasm':
      return createWasmBackend({ ...wasm, reason: "asked for by device: 'wasm'" });
    case 'reference':
      return createReferenceBackend();
    case 'webgpu':
      throw new VGGNetError('BACKEND_UNAVAILABLE', "This version has no WebGPU backend; use device: 'wasm'");
    default:
      throw new VGGNetError(
        'INVALID_ARGUMENT',
        `device must be one of ${DEVICE_NAMES.map((name) => `'${name}'`).join(', ')}, got ${JSON.stringify(device)}`,
      );
  }
}
