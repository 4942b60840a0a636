import type { Backend } from '../backend.js';
import { VGGNetError } from '../errors.js';
import { createWasmBackend } from '../wasm/backend.js';
import { type FoundAdapter, findAdapter, requireAdapter } from '../webgpu/adapter.js';
import type { DeviceName, DeviceOptions, GradientOptions } from './options.js';

const DEVICE_NAMES: readonly DeviceName[] = ['auto', 'wasm', 'webgpu', 'reference'];

/** How long 'auto' waits for an adapter, in ms, before it goes on with WebAssembly. */
const AUTO_WAIT = 5_000;

/** What chooses a backend. */
type BackendOptions = DeviceOptions & GradientOptions;

/**
 * Finds the backend for a device.
 * @throws VGGNetError `INVALID_ARGUMENT` for an unknown name; `BACKEND_UNAVAILABLE` if it is not here; `DEVICE_LOST` if
 * a `gpuDevice` was lost before
 */
export async function createBackend(options: BackendOptions): Promise<Backend> {
  const backend = await findBackend(options);
  if (!options.gradients || backend.hasGradients) return backend;
  throw new VGGNetError(
    'BACKEND_UNAVAILABLE',
    `Gradients are not part of this version on ${backend.device.backend}: use device: 'wasm', or leave out gradients`,
  );
}

async function findBackend({ device = 'auto', ...options }: BackendOptions): Promise<Backend> {
  switch (device) {
    case 'auto':
      return options.gpuDevice
        ? createOnGPU(undefined, 'auto: a gpuDevice was passed', options)
        : chooseBackend(options);
    case 'wasm':
      return createOnWasm("asked for by device: 'wasm'", options);
    case 'reference':
      return (await import('../reference/backend.js')).createReferenceBackend();
    case 'webgpu': {
      const reason = "asked for by device: 'webgpu'";
      return createOnGPU(options.gpuDevice ? undefined : requireAdapter(await findAdapter()), reason, options);
    }
    default:
      throw new VGGNetError(
        'INVALID_ARGUMENT',
        `device must be one of ${DEVICE_NAMES.map((name) => `'${name}'`).join(', ')}, got ${JSON.stringify(device)}`,
      );
  }
}

/** A GPU where one answers, and WebAssembly otherwise: an adapter that computes on the CPU is the slower one. */
async function chooseBackend(options: BackendOptions): Promise<Backend> {
  if (options.gradients) return createOnWasm('auto: WebGPU has no gradients in this version', options);
  if (options.deterministic) {
    return createOnWasm('auto: only WebAssembly gives the same bits on every machine', options);
  }
  const found = await findAdapter(AUTO_WAIT);
  if ('missing' in found) return createOnWasm(`auto: no WebGPU, as ${found.missing}`, options);
  const { description, software } = found;
  if (software) return createOnWasm(`auto: WebGPU has only '${description}' here, which computes on the CPU`, options);
  return createOnGPU(found, `auto: WebGPU has the adapter '${description}'`, options);
}

function createOnWasm(
  reason: string,
  { inline, deterministic, winograd, threads, memoryLimit }: DeviceOptions,
): Backend {
  return createWasmBackend({ inline, deterministic, winograd, threads, memoryLimit, reason });
}

async function createOnGPU(
  found: FoundAdapter | undefined,
  reason: string,
  { gpuDevice }: DeviceOptions,
): Promise<Backend> {
  // On demand: a model on WebAssembly has no use for the shaders.
  const { createWebGPUBackend } = await import('../webgpu/backend.js');
  return createWebGPUBackend({ found, gpuDevice, reason });
}
