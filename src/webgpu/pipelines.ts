import { VGGNetError } from '../errors.js';
import type { PipelineSpec } from './kernel.js';
import { shaderText } from './shaders.js';

/** The members of `Context` that compiling needs. */
interface CheckedDevice {
  readonly device: GPUDevice;
  attempt<T>(what: string, work: () => T): { readonly result: T; readonly checked: Promise<void> };
  wait<T>(work: Promise<T>, what: string): Promise<T>;
}

/** The compute pipelines of a device, compiled once each and shared by all models on it. */
export class Pipelines {
  static readonly #ofDevices = new WeakMap<GPUDevice, Pipelines>();
  readonly #modules = new Map<string, GPUShaderModule>();
  readonly #pipelines = new Map<string, Promise<GPUComputePipeline>>();

  static of(device: GPUDevice): Pipelines {
    let pipelines = Pipelines.#ofDevices.get(device);
    if (!pipelines) {
      pipelines = new Pipelines();
      Pipelines.#ofDevices.set(device, pipelines);
    }
    return pipelines;
  }

  /** @throws VGGNetError `GPU_ERROR`, which names the layer that requested it; `DEVICE_LOST` */
  get(context: CheckedDevice, spec: PipelineSpec, layer: string): Promise<GPUComputePipeline> {
    const key = JSON.stringify([spec.shader, spec.entryPoint, Object.entries(spec.constants).sort()]);
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      pipeline = this.#compile(context, spec, layer);
      // After a failure the next request compiles it again.
      pipeline.catch(() => this.#pipelines.delete(key));
      this.#pipelines.set(key, pipeline);
    }
    return pipeline;
  }

  async #compile(
    context: CheckedDevice,
    { shader, entryPoint, constants }: PipelineSpec,
    layer: string,
  ): Promise<GPUComputePipeline> {
    const what = `${layer}: compiling ${shader}.wgsl, ${entryPoint}`;
    const { device } = context;
    const code = await shaderText(shader);
    if (code === undefined) throw new VGGNetError('GPU_ERROR', `There is no shader '${shader}'`);
    const made = context.attempt(what, () => this.#module(device, shader, code));
    const label = `${shader} ${entryPoint} ${JSON.stringify(constants)}`;
    const pipeline = device.createComputePipelineAsync({
      label,
      layout: 'auto',
      compute: { module: made.result, entryPoint, constants: { ...constants } },
    });
    pipeline.catch(() => undefined);
    try {
      await made.checked;
    } catch (error) {
      this.#modules.delete(shader);
      throw error;
    }
    return context.wait(pipeline, what);
  }

  #module(device: GPUDevice, shader: string, code: string): GPUShaderModule {
    let module = this.#modules.get(shader);
    if (!module) {
      module = device.createShaderModule({ label: `${shader}.wgsl`, code });
      this.#modules.set(shader, module);
    }
    return module;
  }
}
