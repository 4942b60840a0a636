import type { Backend, DeviceInfo } from '../backend.js';
import { VGGNetError } from '../errors.js';
import { describeAdapter, type FoundAdapter } from './adapter.js';
import { Context } from './context.js';
import { DeviceSource, type DeviceSourceOptions } from './device.js';
import { WebGPUExecutable } from './executable.js';

export interface WebGPUOptions extends DeviceSourceOptions {
  /** The adapter to request devices from; not needed with a `gpuDevice`. */
  readonly found?: FoundAdapter | undefined;
  /** Why this backend was chosen, for `DeviceInfo`. */
  readonly reason: string;
}

/**
 * Runs the kernels of shaders/ on a GPU.
 * @throws VGGNetError `INVALID_ARGUMENT` if `gpuDevice` is not a GPUDevice
 */
export function createWebGPUBackend(options: WebGPUOptions): Backend {
  const { found, gpuDevice, reason } = options;
  if (
    gpuDevice !== undefined &&
    typeof (gpuDevice as Partial<GPUDevice> | null)?.createComputePipelineAsync !== 'function'
  ) {
    throw new VGGNetError('INVALID_ARGUMENT', `gpuDevice must be a GPUDevice, got ${typeof gpuDevice}`);
  }
  const name = gpuDevice ? describeAdapter({ info: gpuDevice.adapterInfo }).description : (found?.description ?? '');
  const device: DeviceInfo = { backend: 'webgpu', build: name, threads: 1, inline: false, reason };
  const source = new DeviceSource(found, options);
  return {
    device,
    roundsWeights: ['fp16'],
    compile(program, parameters, { signal, reopen } = {}) {
      return WebGPUExecutable.compile({ source, program, reopen }, parameters, signal);
    },
  };
}

const contexts = new WeakMap<GPUDevice, Context>();

/**
 * A context for work on a device that a model or the caller owns; one for each device, since it observes the loss. It is
 * here, and not in context.ts, so that image.ts shares one file of the bundle with the backend.
 */
export function contextOf(device: GPUDevice): Context {
  const context = contexts.get(device) ?? new Context(device, { owned: false });
  contexts.set(device, context);
  return context;
}
