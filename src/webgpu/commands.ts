import type { Context } from './context.js';
import type { Dispatch } from './kernel.js';
import * as USAGE from './usage.js';

/** Dispatches that belong to one layer. */
export interface Work {
  /** The layer, for labels and messages. */
  readonly label: string;
  readonly dispatches: readonly Dispatch[];
}

interface Ready {
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
  readonly workgroups: readonly [number, number, number];
}

/** Words of a dispatch's parameters, at most; the offset of a uniform is a multiple of 256 on every device. */
const SLOT = 256;

/** Work that was made ready to be encoded again and again: pipelines, bind groups, and parameters in one uniform buffer. */
export class Commands {
  readonly #context: Context;
  readonly #uniform: GPUBuffer;
  readonly #ownsUniform: boolean;
  readonly #work: readonly (Work & { readonly ready: readonly Ready[]; readonly slot: number })[];

  private constructor(context: Context, uniform: GPUBuffer, ownsUniform: boolean, work: Commands['work']) {
    this.#context = context;
    this.#uniform = uniform;
    this.#ownsUniform = ownsUniform;
    this.#work = work;
  }

  /**
   * Compiles side by side what is not compiled yet.
   * @param uniform a buffer for the parameters that is used again, or none to make one
   * @throws VGGNetError `OUT_OF_MEMORY`, `GPU_ERROR` that name the layer; `DEVICE_LOST`
   */
  static async prepare(context: Context, work: readonly Work[], uniform?: GPUBuffer): Promise<Commands> {
    const pipelines = await Promise.all(
      work.map(({ label, dispatches }) =>
        Promise.all(dispatches.map(({ pipeline }) => context.pipelines.get(context, pipeline, label))),
      ),
    );
    const count = work.reduce((total, { dispatches }) => total + dispatches.length, 0);
    const checks: Promise<void>[] = [];
    const attempt = <T>(label: string, make: () => T): T => {
      const { result, checked } = context.attempt(label, make);
      checks.push(checked);
      return result;
    };
    const size = Math.max(1, count) * SLOT;
    const parameters =
      uniform ??
      attempt('parameters of the kernels', () =>
        context.createBuffer('parameters of the kernels', size, USAGE.uniform | USAGE.copyTarget),
      );
    let slot = 0;
    const made = work.map(({ label, dispatches }, i) => {
      const first = slot;
      slot += dispatches.length;
      const bind = (): Ready[] =>
        dispatches.map((dispatch, j) => {
          const pipeline = pipelines[i]?.[j] as GPUComputePipeline;
          const params = { buffer: parameters, offset: (first + j) * SLOT, size: SLOT };
          const bindGroup = context.device.createBindGroup({
            label: `${label}: ${dispatch.label}`,
            layout: pipeline.getBindGroupLayout(0),
            entries: [...dispatch.bindings, params].map((resource, binding) => ({ binding, resource })),
          });
          return { pipeline, bindGroup, workgroups: dispatch.workgroups };
        });
      return { label, dispatches, slot: first, ready: attempt(label, bind) };
    });
    const commands = new Commands(context, parameters, uniform === undefined, made);
    try {
      await Promise.all(checks);
      attempt('parameters of the kernels', () => commands.#writeParameters(made));
      await checks.at(-1);
    } catch (error) {
      commands.destroy();
      throw error;
    }
    return commands;
  }

  /** Each layer's work, in order. */
  get work(): readonly (Work & { readonly ready: readonly Ready[]; readonly slot: number })[] {
    return this.#work;
  }

  #writeParameters(work: Commands['work']): void {
    const words = new Uint32Array(work.reduce((total, { ready }) => total + ready.length, 0) * (SLOT / 4));
    const [first] = work;
    if (!first || words.length === 0) return;
    for (const { dispatches, slot } of work) {
      for (const [j, { params }] of dispatches.entries()) words.set(params, (slot - first.slot + j) * (SLOT / 4));
    }
    this.#context.device.queue.writeBuffer(this.#uniform, first.slot * SLOT, words);
  }

  /** Puts other parameters in the place of those of one layer, as a seed changes: same pipelines, same buffers. */
  rewrite(index: number, dispatches: readonly Dispatch[]): void {
    const work = this.#work[index];
    if (work) this.#writeParameters([{ ...work, dispatches }]);
  }

  /** Encodes the work from one layer up to, not including, another. */
  encode(pass: GPUComputePassEncoder, from = 0, to: number = this.#work.length): void {
    for (const { label, ready } of this.#work.slice(from, to)) {
      if (ready.length === 0) continue;
      pass.pushDebugGroup(label);
      for (const { pipeline, bindGroup, workgroups } of ready) {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, bindGroup);
        pass.dispatchWorkgroups(...workgroups);
      }
      pass.popDebugGroup();
    }
  }

  /** Encodes all of the work in a pass of its own. */
  encodePass(encoder: GPUCommandEncoder, label: string): void {
    const pass = encoder.beginComputePass({ label });
    this.encode(pass);
    pass.end();
  }

  destroy(): void {
    if (this.#ownsUniform) this.#context.destroyBuffer(this.#uniform);
  }
}
