import { VGGNetError } from '../errors.js';
import type { Context } from './context.js';
import type { PipelineSpec } from './kernel.js';
import { shaderText } from './shaders.js';

/**
 * The compute pipelines of one device, which all models on it share. Each is compiled once, and all that a plan needs
 * are compiled side by side.
 */
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

  /** @throws VGGNetError `GPU_ERROR` that names the layer which asked for it, `DEVICE_LOST` */
  get(context: Context, spec: PipelineSpec, layer: string): Promise<GPUComputePipeline> {
    const key = JSON.stringify([spec.shader, spec.entryPoint, Object.entries(spec.constants).sort()]);
    let pipeline = this.#pipelines.get(key);
    if (!pipeline) {
      pipeline = this.#compile(context, spec, layer);
      // One that failed is compiled anew by the next that asks.
      pipeline.catch(() => this.#pipelines.delete(key));
      this.#pipelines.set(key, pipeline);
    }
    return pipeline;
  }

  async #compile(
    context: Context,
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
