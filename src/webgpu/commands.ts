import type { Context } from './context.js';
import type { Dispatch } from './kernel.js';
import * as USAGE from './usage.js';

/** The dispatches of a layer. */
export interface Work {
  /** The layer, for labels and messages. */
  readonly label: string;
  readonly dispatches: readonly Dispatch[];
}

interface BoundDispatch {
  readonly pipeline: GPUComputePipeline;
  readonly bindGroup: GPUBindGroup;
  readonly workgroups: readonly [number, number, number];
}

/** Bytes for the uniform of a dispatch: on every device its offset may be a multiple of 256. */
const SLOT = 256;

/** Work that can be encoded repeatedly: its pipelines, its bind groups, and its uniforms in one buffer. */
export class Commands {
  readonly #context: Context;
  readonly #uniform: GPUBuffer;
  readonly #ownsUniform: boolean;
  readonly #work: readonly (Work & { readonly bound: readonly BoundDispatch[]; readonly slot: number })[];

  private constructor(context: Context, uniform: GPUBuffer, ownsUniform: boolean, work: Commands['work']) {
    this.#context = context;
    this.#uniform = uniform;
    this.#ownsUniform = ownsUniform;
    this.#work = work;
  }

  /**
   * Compiles the missing pipelines concurrently, and binds the buffers.
   * @param uniform a buffer to reuse for the uniforms; by default a new one
   * @throws VGGNetError `OUT_OF_MEMORY` and `GPU_ERROR`, which name the layer; `DEVICE_LOST`
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
    const uniforms =
      uniform ?? attempt('uniforms', () => context.createBuffer('uniforms', size, USAGE.uniform | USAGE.copyTarget));
    let slot = 0;
    const made = work.map(({ label, dispatches }, i) => {
      const first = slot;
      slot += dispatches.length;
      const bind = (): BoundDispatch[] =>
        dispatches.map((dispatch, j) => {
          const pipeline = pipelines[i]?.[j] as GPUComputePipeline;
          const params = { buffer: uniforms, offset: (first + j) * SLOT, size: SLOT };
          const bindGroup = context.device.createBindGroup({
            label: `${label}: ${dispatch.label}`,
            layout: pipeline.getBindGroupLayout(0),
            entries: [...dispatch.bindings, params].map((resource, binding) => ({ binding, resource })),
          });
          return { pipeline, bindGroup, workgroups: dispatch.workgroups };
        });
      return { label, dispatches, slot: first, bound: attempt(label, bind) };
    });
    const commands = new Commands(context, uniforms, uniform === undefined, made);
    try {
      await Promise.all(checks);
      attempt('uniforms', () => commands.#writeUniforms(made));
      await checks.at(-1);
    } catch (error) {
      commands.destroy();
      throw error;
    }
    return commands;
  }

  /** Each layer's work, in order. */
  get work(): readonly (Work & { readonly bound: readonly BoundDispatch[]; readonly slot: number })[] {
    return this.#work;
  }

  #writeUniforms(work: Commands['work']): void {
    const words = new Uint32Array(work.reduce((total, { bound }) => total + bound.length, 0) * (SLOT / 4));
    const [first] = work;
    if (!first || words.length === 0) return;
    for (const { dispatches, slot } of work) {
      for (const [j, { params }] of dispatches.entries()) words.set(params, (slot - first.slot + j) * (SLOT / 4));
    }
    this.#context.device.queue.writeBuffer(this.#uniform, first.slot * SLOT, words);
  }

  /** Overwrites the uniforms of a layer, such as those with a seed. Pipelines and buffers must be the same. */
  rewrite(index: number, dispatches: readonly Dispatch[]): void {
    const work = this.#work[index];
    if (work) this.#writeUniforms([{ ...work, dispatches }]);
  }

  /** Encodes the work of layers `from` up to but not including `to`. */
  encode(pass: GPUComputePassEncoder, from = 0, to: number = this.#work.length): void {
    for (const { label, bound } of this.#work.slice(from, to)) {
      if (bound.length === 0) continue;
      pass.pushDebugGroup(label);
      for (const { pipeline, bindGroup, workgroups } of bound) {
        pass.setPipeline(pipeline);
        pass.setBindGroup(0, bindGroup);
        pass.dispatchWorkgroups(...workgroups);
      }
      pass.popDebugGroup();
    }
  }

  /** Encodes all work in a new pass. */
  encodePass(encoder: GPUCommandEncoder, label: string): void {
    const pass = encoder.beginComputePass({ label });
    this.encode(pass);
    pass.end();
  }

  destroy(): void {
    if (this.#ownsUniform) this.#context.destroyBuffer(this.#uniform);
  }
}
