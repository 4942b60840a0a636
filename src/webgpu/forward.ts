import type { RunOptions, StepTime } from '../backend.js';
import { throwIfAborted } from '../errors.js';
import type { GPUTensor } from '../gpu-tensor.js';
import { stepLabel } from '../program/fuse.js';
import { numel, Tensor } from '../tensor.js';
import type { ActivationBuffers } from './activations.js';
import { Commands, type Work } from './commands.js';
import type { Context } from './context.js';
import type { Derived } from './derived.js';
import type { BufferView } from './kernel.js';
import type { Parameters } from './parameters.js';
import { type Chain, type KernelCall, type PlacedValue, type Plan, valueBytes } from './plan.js';
import { type OutputLocation, Readback } from './readback.js';
import { dispatchesOf, extraction, isDense, type KernelBuffers, tensorBytes } from './steps.js';

/** What a forward runs with. */
export interface Resources {
  readonly context: Context;
  readonly plan: Plan;
  readonly parameters: Parameters;
  readonly activations: ActivationBuffers;
  readonly derived: Derived;
}

/** A chain with its commands. Work `at` is the call; if its output is requested, the next work extracts it. */
interface PreparedChain {
  readonly chain: Chain;
  readonly commands: Commands;
  readonly entries: readonly {
    readonly call: KernelCall;
    readonly at: number;
    readonly requested: readonly string[];
  }[];
}

/** A plan that is prepared on the device. A run allocates nothing but its results. */
export class Forward {
  readonly #resources: Resources;
  readonly #chains: ReadonlyMap<Chain, PreparedChain>;
  #seed = 0;

  private constructor(parts: Resources, chains: ReadonlyMap<Chain, PreparedChain>, seed: number) {
    this.#resources = parts;
    this.#chains = chains;
    this.#seed = seed;
  }

  /**
   * Compiles the missing pipelines concurrently, and binds the buffers.
   * @throws VGGNetError `OUT_OF_MEMORY` and `GPU_ERROR`, which name the layer; `DEVICE_LOST`
   */
  static async prepare(parts: Resources, options: RunOptions): Promise<Forward> {
    const { plan, derived, context } = parts;
    const chains = [...plan.parts.map(({ chain }) => chain), ...(plan.rest ? [plan.rest] : [])];
    const calls = chains.flatMap((chain) => chain.calls);
    if (calls.some(({ step }) => step?.batchNorm)) await derived.prepareFolding();
    for (const { step, conv } of calls) if (step && conv) await derived.prepareWeights(step.layer, conv);

    const ready = new Map<Chain, PreparedChain>();
    try {
      const made = await Promise.all(
        chains.map(async (chain): Promise<[Chain, PreparedChain]> => {
          const { work, entries } = workOf(chain, parts, options);
          return [chain, { chain, entries, commands: await Commands.prepare(context, work) }];
        }),
      );
      for (const [chain, one] of made) ready.set(chain, one);
    } catch (error) {
      for (const { commands } of ready.values()) commands.destroy();
      throw error;
    }
    return new Forward(parts, ready, options.seed);
  }

  /** A submit for each part, and a read-back for each output. */
  async run(input: Tensor | GPUTensor, options: RunOptions, location: OutputLocation): Promise<(Tensor | GPUTensor)[]> {
    const { context, plan, derived } = this.#resources;
    this.#reseed(options);
    const readback = new Readback(context, location, plan.batch);
    try {
      const checks = [...this.#stages(input)].map((stage) => {
        const record = (encoder: GPUCommandEncoder): void => {
          stage.write();
          this.#encode(encoder, stage, readback);
        };
        return context.submit('forward', record, 'the forward');
      });
      if (options.mode === 'train') derived.stale = true;
      await Promise.all(checks);
      return await readback.collect(options.outputs);
    } finally {
      readback.destroy();
    }
  }

  /** Runs, and returns the time of each call. */
  async profile(input: Tensor | GPUTensor, options: RunOptions): Promise<StepTime[]> {
    const { context, derived } = this.#resources;
    const { timeSteps } = await import('./timing.js');
    this.#reseed(options);
    const times = new Map<string, StepTime>();
    for (const stage of this.#stages(input)) {
      throwIfAborted(options.signal);
      stage.write();
      const { entries, commands } = stage.ready;
      const measured = await timeSteps(context, {
        before: (encoder) => {
          stage.copyIn(encoder);
          this.#fold(encoder, entries);
        },
        steps: entries.map(({ call, at }) => ({
          label: labelOf(call),
          encode: (pass) => commands.encode(pass, at, at + 1),
        })),
        after: stage.copyOut,
      });
      for (const [i, { call }] of entries.entries()) {
        const name = labelOf(call);
        const ms = (times.get(name)?.ms ?? 0) + (measured[i] as number);
        times.set(name, { name, algorithm: algorithmOf(call), ms });
      }
    }
    if (options.mode === 'train') derived.stale = true;
    return [...times.values()];
  }

  destroy(): void {
    for (const { commands } of this.#chains.values()) commands.destroy();
  }

  /** The submits of a forward. */
  #stages(input: Tensor | GPUTensor): Stage[] {
    const { plan } = this.#resources;
    const size = numel(input.shape) / plan.batch;
    const nothing = (): void => {};
    const stages = plan.parts.map(({ from, images, chain }): Stage => {
      const target = viewOf(this.#resources, chain.first).buffer;
      const { classifierInput } = plan;
      const copyOut = classifierInput
        ? (encoder: GPUCommandEncoder) => this.#gather(encoder, chain.last, classifierInput, from)
        : nothing;
      const stage = { ready: this.#chains.get(chain) as PreparedChain, from, copyOut };
      if (input instanceof Tensor) {
        const values = input.data.subarray(from * size, (from + images) * size) as Float32Array<ArrayBuffer>;
        const { queue } = this.#resources.context.device;
        return { ...stage, write: () => queue.writeBuffer(target, 0, values), copyIn: nothing };
      }
      const { buffer, offset } = input;
      const copyIn = (encoder: GPUCommandEncoder): void =>
        encoder.copyBufferToBuffer(buffer, offset + from * size * 4, target, 0, images * size * 4);
      return { ...stage, write: nothing, copyIn };
    });
    if (!plan.rest) return stages;
    const ready = this.#chains.get(plan.rest) as PreparedChain;
    return [...stages, { ready, from: 0, write: nothing, copyIn: nothing, copyOut: nothing }];
  }

  #encode(encoder: GPUCommandEncoder, { ready, from, copyIn, copyOut }: Stage, readback: Readback): void {
    const { commands, entries } = ready;
    copyIn(encoder);
    this.#fold(encoder, entries);
    let pass: GPUComputePassEncoder | undefined;
    for (const { call, at, requested } of entries) {
      pass ??= encoder.beginComputePass({ label: 'forward' });
      commands.encode(pass, at, at + (requested.length > 0 ? 2 : 1));
      if (requested.length === 0) continue;
      pass.end();
      pass = undefined;
      const { output } = call;
      const source = isDense(output) ? viewOf(this.#resources, output) : this.#resources.activations.view('result', 0);
      for (const name of requested) readback.add(encoder, name, source.buffer, output.shape, from);
    }
    pass?.end();
    copyOut(encoder);
  }

  /** Recomputes stale epilogues of batch norm if the chain needs them. */
  #fold(encoder: GPUCommandEncoder, entries: PreparedChain['entries']): void {
    if (entries.some(({ call }) => call.step?.batchNorm)) this.#resources.derived.encodeFolding(encoder);
  }

  /** Copies a part's result to its images in the classifier's input. */
  #gather(encoder: GPUCommandEncoder, last: PlacedValue, classifierInput: PlacedValue, from: number): void {
    const bytes = valueBytes(last);
    const at = (bytes / (last.shape[0] as number)) * from;
    const [source, target] = [viewOf(this.#resources, last), viewOf(this.#resources, classifierInput)];
    encoder.copyBufferToBuffer(source.buffer, 0, target.buffer, at, bytes);
  }

  /** The uniforms of dropout contain the seed of the run. */
  #reseed(options: RunOptions): void {
    if (options.mode === 'eval' || options.seed === this.#seed) return;
    this.#seed = options.seed;
    const buffers = kernelBuffersOf(this.#resources);
    for (const { entries, commands } of this.#chains.values()) {
      for (const { call, at } of entries) {
        if (call.step?.layer.op === 'dropout') commands.rewrite(at, dispatchesOf(call, buffers, options));
      }
    }
  }
}

/** A submit: what is written before it, and what is copied at its start and end. */
interface Stage {
  readonly ready: PreparedChain;
  /** Index of its first image. */
  readonly from: number;
  readonly write: () => void;
  readonly copyIn: (encoder: GPUCommandEncoder) => void;
  readonly copyOut: (encoder: GPUCommandEncoder) => void;
}

/** Bytes of the largest output that is copied into PyTorch's order before it is read. */
export function resultBytes(plan: Plan, outputs: readonly string[]): number {
  const chains = [...plan.parts.map(({ chain }) => chain), ...(plan.rest ? [plan.rest] : [])];
  const requested = chains
    .flatMap(({ calls }) => calls)
    .filter(({ names, output }) => names.some((name) => outputs.includes(name)) && !isDense(output));
  return Math.max(0, ...requested.map(({ output }) => tensorBytes(output)));
}

function workOf(
  chain: Chain,
  parts: Resources,
  options: RunOptions,
): { work: Work[]; entries: PreparedChain['entries'] } {
  const buffers = kernelBuffersOf(parts);
  const work: Work[] = [];
  const entries = chain.calls.map((call) => {
    const at = work.length;
    const requested = [...new Set(options.outputs)].filter((name) => call.names.includes(name));
    work.push({ label: labelOf(call), dispatches: dispatchesOf(call, buffers, options) });
    if (requested.length > 0) {
      const result = parts.activations.view('result', tensorBytes(call.output));
      const dispatches = extraction(call.output, viewOf(parts, call.output), result);
      work.push({ label: `reading ${labelOf(call)}`, dispatches });
    }
    return { call, at, requested };
  });
  return { work, entries };
}

function kernelBuffersOf(parts: Resources): KernelBuffers {
  const { context, parameters, activations, derived } = parts;
  return {
    capabilities: context.capabilities,
    parameters,
    view: (value) => viewOf(parts, value),
    scratch: (index, bytes) => activations.view(`scratch ${index}`, bytes),
    folded: (layer) => derived.folded(layer),
    convWeights: (layer, plan) => derived.convWeights(layer, plan),
  };
}

function viewOf({ activations }: Resources, value: PlacedValue): BufferView {
  return activations.view(value.side, valueBytes(value));
}

function labelOf({ step, names, output }: KernelCall): string {
  return step ? stepLabel(step, names) : `to ${output.layout}`;
}

function algorithmOf({ conv }: KernelCall): string {
  if (!conv) return '';
  return conv.algorithm === 'direct' ? 'direct' : 'winograd';
}
