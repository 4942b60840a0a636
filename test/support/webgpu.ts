import type { Backend } from '../../src/backend.js';
import { findAdapter, requireAdapter } from '../../src/webgpu/adapter.js';
import { createWebGPUBackend, type WebGPUOptions } from '../../src/webgpu/backend.js';

/* Models on a device that all tests of a file share, so that a pipeline is compiled once for them. */

let device: Promise<GPUDevice> | undefined;

/** Fails where there is no adapter, so that no test passes for want of one. */
export async function openDevice(): Promise<GPUDevice> {
  const { adapter } = requireAdapter(await findAdapter());
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
  const requiredFeatures = (['subgroups', 'timestamp-query'] as GPUFeatureName[]).filter((name) =>
    adapter.features.has(name),
  );
  return adapter.requestDevice({ requiredFeatures, requiredLimits: { maxBufferSize, maxStorageBufferBindingSize } });
}

export async function webgpu(options: Partial<WebGPUOptions> = {}): Promise<Backend> {
  device ??= openDevice();
  return createWebGPUBackend({ gpuDevice: await device, reason: 'asked for by a test', ...options });
}
