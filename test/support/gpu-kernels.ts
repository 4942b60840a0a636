import { readFileSync } from 'node:fs';
import type { BufferView, Capabilities, Dispatch, PipelineSpec } from '../../src/webgpu/kernel.js';
import { dawnAdapter } from './dawn.js';

/* Runs what src/webgpu/ops/ says to dispatch, without the engine. */

const FEATURES: readonly GPUFeatureName[] = ['subgroups', 'timestamp-query'];

export class GPUKernels {
  readonly device: GPUDevice;
  readonly caps: Capabilities;
  readonly #modules = new Map<string, GPUShaderModule>();
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();

  private constructor(device: GPUDevice, subgroups: boolean) {
    this.device = device;
    this.caps = { limits: device.limits, f16: false, subgroups };
  }

  /** @param subgroups false to try the kernels of devices without */
  static async create({ subgroups = true }: { subgroups?: boolean } = {}): Promise<GPUKernels> {
    const adapter = await dawnAdapter();
    const requiredFeatures = FEATURES.filter((feature) => adapter.features.has(feature));
    const { maxStorageBufferBindingSize, maxBufferSize } = adapter.limits;
    const requiredLimits = { maxStorageBufferBindingSize, maxBufferSize };
    const device = await adapter.requestDevice({ requiredFeatures, requiredLimits });
    return new GPUKernels(device, subgroups && adapter.features.has('subgroups'));
  }

  /** A buffer of this many bytes, filled with 0xff (NaN) unless it is to be zero, so that what is left out shows. */
  empty(bytes: number, { zero = false }: { zero?: boolean } = {}): BufferView {
    const size = Math.max(16, Math.ceil(bytes / 4) * 4);
    return this.upload(new Uint8Array(size).fill(zero ? 0 : 0xff));
  }

  upload(data: Uint8Array | Float32Array | Uint32Array): BufferView {
    const { STORAGE, COPY_SRC, COPY_DST } = GPUBufferUsage;
    const size = Math.max(16, data.byteLength);
    const buffer = this.device.createBuffer({ size, usage: STORAGE | COPY_SRC | COPY_DST, mappedAtCreation: true });
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    new Uint8Array(buffer.getMappedRange()).set(bytes);
    buffer.unmap();
    return { buffer, offset: 0, size };
  }

  /** Runs the dispatches in one pass, and throws what the device says of them. */
  async run(...lists: readonly (readonly Dispatch[])[]): Promise<void> {
    const dispatches = lists.flat();
    const pipelines = await Promise.all(dispatches.map(({ pipeline }) => this.pipeline(pipeline)));
    this.device.pushErrorScope('validation');
    const encoder = this.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const [i, dispatch] of dispatches.entries()) {
      const pipeline = pipelines[i] as GPUComputePipeline;
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, this.#bind(dispatch, pipeline));
      pass.dispatchWorkgroups(...dispatch.workgroups);
    }
    pass.end();
    this.device.queue.submit([encoder.finish()]);
    const error = await this.device.popErrorScope();
    if (error) throw new Error(error.message);
    await this.device.queue.onSubmittedWorkDone();
  }

  async download({ buffer, offset, size }: BufferView): Promise<Float32Array> {
    const { COPY_DST, MAP_READ } = GPUBufferUsage;
    const copy = this.device.createBuffer({ size, usage: COPY_DST | MAP_READ });
    const encoder = this.device.createCommandEncoder();
    encoder.copyBufferToBuffer(buffer, offset, copy, 0, size);
    this.device.queue.submit([encoder.finish()]);
    await copy.mapAsync(GPUMapMode.READ);
    const data = new Float32Array(copy.getMappedRange().slice(0));
    copy.destroy();
    return data;
  }

  pipeline({ shader, entryPoint, constants }: PipelineSpec): Promise<GPUComputePipeline> {
    const key = JSON.stringify([shader, entryPoint, constants]);
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      const compute = { module: this.#module(shader), entryPoint, constants: { ...constants } };
      pipeline = this.device.createComputePipelineAsync({ label: key, layout: 'auto', compute });
      this.#pipelines.set(key, pipeline);
    }
    return pipeline;
  }

  destroy(): void {
    this.device.destroy();
  }

  #module(shader: string): GPUShaderModule {
    let module = this.#modules.get(shader);
    if (!module) {
      const code = readFileSync(new URL(`../../shaders/${shader}.wgsl`, import.meta.url), 'utf8');
      module = this.device.createShaderModule({ label: shader, code });
      this.#modules.set(shader, module);
    }
    return module;
  }

  #bind({ bindings, params }: Dispatch, pipeline: GPUComputePipeline): GPUBindGroup {
    // Any size that holds the shader's struct will do.
    const uniform = this.device.createBuffer({ size: 256, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
    this.device.queue.writeBuffer(uniform, 0, params as Uint32Array<ArrayBuffer>);
    const entries = [...bindings, { buffer: uniform }].map((resource, binding) => ({ binding, resource }));
    return this.device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries });
  }
}
