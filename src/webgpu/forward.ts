import type { RunOptions, StepTime } from '../backend.js';
import { throwIfAborted } from '../errors.js';
import type { GPUTensor } from '../gpu-tensor.js';
import { numel, Tensor } from '../tensor.js';
import type { Arena } from './arena.js';
import { Commands, type Work } from './commands.js';
import type { Context } from './context.js';
import type { Derived } from './derived.js';
import type { BufferView } from './kernel.js';
import type { Parameters } from './parameters.js';
import { type Call, type Chain, type Plan, type Value, valueBytes } from './plan.js';
import { Readback } from './readback.js';
import type { OutputPlace } from './session.js';
import { dispatchesOf, extraction, isDense, type Places, tensorBytes } from './steps.js';

/** What a forward is made of. */
export interface Parts {
  readonly context: Context;
  readonly plan: Plan;
  readonly parameters: Parameters;
  readonly arena: Arena;
  readonly derived: Derived;
}

/** A chain with its commands: entry i is call i, and the extraction of what was asked for of it comes after. */
interface Ready {
  readonly chain: Chain;
  readonly commands: Commands;
  readonly entries: readonly { readonly call: Call; readonly at: number; readonly wanted: readonly string[] }[];
}

/** A plan made ready on the device: it is run again and again without another allocation than of its results. */
export class Forward {
  readonly #parts: Parts;
  readonly #chains: ReadonlyMap<Chain, Ready>;
  #seed = 0;

  private constructor(parts: Parts, chains: ReadonlyMap<Chain, Ready>, seed: number) {
    this.#parts = parts;
    this.#chains = chains;
    this.#seed = seed;
  }

  /**
   * Compiles the pipelines that are missing, side by side, and binds the buffers.
   * @throws VGGNetError `OUT_OF_MEMORY`, `GPU_ERROR` that name the layer; `DEVICE_LOST`
   */
  static async prepare(parts: Parts, options: RunOptions): Promise<Forward> {
    const { plan, derived, context } = parts;
    const chains = [...plan.parts.map(({ chain }) => chain), ...(plan.rest ? [plan.rest] : [])];
    const calls = chains.flatMap((chain) => chain.calls);
    if (calls.some(({ step }) => step?.batchNorm)) await derived.prepareFolding();
    for (const { step, conv } of calls) if (step && conv) await derived.prepareWeights(step.layer, conv);

    const ready = new Map<Chain, Ready>();
    try {
      const made = await Promise.all(
        chains.map(async (chain): Promise<[Chain, Ready]> => {
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

  /** One command buffer and one submit for each part, and one read-back for each output. */
  async run(input: Tensor | GPUTensor, options: RunOptions, place: OutputPlace): Promise<(Tensor | GPUTensor)[]> {
    const { context, plan, derived } = this.#parts;
    this.#reseed(options);
    const readback = new Readback(context, place, plan.batch);
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

  /** Runs, and gives the time of each call. */
  async profile(input: Tensor | GPUTensor, options: RunOptions): Promise<StepTime[]> {
    const { context, derived } = this.#parts;
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
          label: nameOf(call),
          encode: (pass) => commands.encode(pass, at, at + 1),
        })),
        after: stage.copyOut,
      });
      for (const [i, { call }] of entries.entries()) {
        const name = nameOf(call);
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
    const { plan } = this.#parts;
    const size = numel(input.shape) / plan.batch;
    const nothing = (): void => {};
    const stages = plan.parts.map(({ from, images, chain }): Stage => {
      const target = placeOf(this.#parts, chain.first).buffer;
      const { joint } = plan;
      const copyOut = joint ? (encoder: GPUCommandEncoder) => this.#join(encoder, chain.last, joint, from) : nothing;
      const stage = { ready: this.#chains.get(chain) as Ready, from, copyOut };
      if (input instanceof Tensor) {
        const values = input.data.subarray(from * size, (from + images) * size) as Float32Array<ArrayBuffer>;
        const { queue } = this.#parts.context.device;
        return { ...stage, write: () => queue.writeBuffer(target, 0, values), copyIn: nothing };
      }
      const { buffer, offset } = input;
      const copyIn = (encoder: GPUCommandEncoder): void =>
        encoder.copyBufferToBuffer(buffer, offset + from * size * 4, target, 0, images * size * 4);
      return { ...stage, write: nothing, copyIn };
    });
    if (!plan.rest) return stages;
    const ready = this.#chains.get(plan.rest) as Ready;
    return [...stages, { ready, from: 0, write: nothing, copyIn: nothing, copyOut: nothing }];
  }

  #encode(encoder: GPUCommandEncoder, { ready, from, copyIn, copyOut }: Stage, readback: Readback): void {
    const { commands, entries } = ready;
    copyIn(encoder);
    this.#fold(encoder, entries);
    let pass: GPUComputePassEncoder | undefined;
    for (const { call, at, wanted } of entries) {
      pass ??= encoder.beginComputePass({ label: 'forward' });
      commands.encode(pass, at, at + (wanted.length > 0 ? 2 : 1));
      if (wanted.length === 0) continue;
      pass.end();
      pass = undefined;
      const { output } = call;
      const source = isDense(output) ? placeOf(this.#parts, output) : this.#parts.arena.view('result', 0);
      for (const name of wanted) readback.add(encoder, name, source.buffer, output.shape, from);
    }
    pass?.end();
    copyOut(encoder);
  }

  /** Brings the epilogues of batch norm up to date, where the chain needs them. */
  #fold(encoder: GPUCommandEncoder, entries: Ready['entries']): void {
    if (entries.some(({ call }) => call.step?.batchNorm)) this.#parts.derived.encodeFolding(encoder);
  }

  /** Puts a part's result in its images' place. */
  #join(encoder: GPUCommandEncoder, last: Value, joint: Value, from: number): void {
    const bytes = valueBytes(last);
    const at = (bytes / (last.shape[0] as number)) * from;
    const [source, target] = [placeOf(this.#parts, last), placeOf(this.#parts, joint)];
    encoder.copyBufferToBuffer(source.buffer, 0, target.buffer, at, bytes);
  }

  /** Dropout's parameters hold the seed of the run. */
  #reseed(options: RunOptions): void {
    if (options.mode === 'eval' || options.seed === this.#seed) return;
    this.#seed = options.seed;
    const places = placesOf(this.#parts);
    for (const { entries, commands } of this.#chains.values()) {
      for (const { call, at } of entries) {
        if (call.step?.layer.op === 'dropout') commands.rewrite(at, dispatchesOf(call, places, options));
      }
    }
  }
}

/** One submit: what is written before it, copied at its start, and kept at its end. */
interface Stage {
  readonly ready: Ready;
  /** Index of its first image. */
  readonly from: number;
  readonly write: () => void;
  readonly copyIn: (encoder: GPUCommandEncoder) => void;
  readonly copyOut: (encoder: GPUCommandEncoder) => void;
}

/** Bytes of the largest tensor that has to be brought into PyTorch's order before it is read. */
export function resultBytes(plan: Plan, outputs: readonly string[]): number {
  const chains = [...plan.parts.map(({ chain }) => chain), ...(plan.rest ? [plan.rest] : [])];
  const wanted = chains
    .flatMap(({ calls }) => calls)
    .filter(({ names, output }) => names.some((name) => outputs.includes(name)) && !isDense(output));
  return Math.max(0, ...wanted.map(({ output }) => tensorBytes(output)));
}

function workOf(chain: Chain, parts: Parts, options: RunOptions): { work: Work[]; entries: Ready['entries'] } {
  const places = placesOf(parts);
  const work: Work[] = [];
  const entries = chain.calls.map((call) => {
    const at = work.length;
    const wanted = [...new Set(options.outputs)].filter((name) => call.names.includes(name));
    work.push({ label: nameOf(call), dispatches: dispatchesOf(call, places, options) });
    if (wanted.length > 0) {
      const result = parts.arena.view('result', tensorBytes(call.output));
      const dispatches = extraction(call.output, placeOf(parts, call.output), result);
      work.push({ label: `reading ${nameOf(call)}`, dispatches });
    }
    return { call, at, wanted };
  });
  return { work, entries };
}

function placesOf(parts: Parts): Places {
  const { context, parameters, arena, derived } = parts;
  return {
    capabilities: context.capabilities,
    parameters,
    view: (value) => placeOf(parts, value),
    scratch: (index, bytes) => arena.view(`scratch ${index}`, bytes),
    folded: (layer) => derived.folded(layer),
    convWeights: (layer, plan) => derived.convWeights(layer, plan),
  };
}

function placeOf({ arena }: Parts, value: Value): BufferView {
  return arena.view(value.side, valueBytes(value));
}

/** The layer, and those that were fused into it. */
function nameOf({ step, names, output }: Call): string {
  if (!step) return `to ${output.layout}`;
  return [step.layer.name, ...names.filter((name) => name !== step.layer.name)].join('+');
}

function algorithmOf({ conv }: Call): string {
  if (!conv) return '';
  return conv.algorithm === 'direct' ? 'direct' : 'winograd';
}
