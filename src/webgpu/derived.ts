import type { BatchNorm2d, Conv2d, Layer } from '../program/layers.js';
import { Commands } from './commands.js';
import type { Context } from './context.js';
import type { BufferView } from './kernel.js';
import { foldBatchNorm } from './ops/batchnorm2d.js';
import { type Conv2dPlan, conv2dWeights } from './ops/conv2d.js';
import { padded } from './ops/dispatch.js';
import type { Parameters } from './parameters.js';
import * as USAGE from './usage.js';

interface Folded {
  readonly scale: BufferView;
  readonly shift: BufferView;
}

/**
 * Buffers computed from the parameters: the epilogue of each convolution that has batch norm after it, recomputed when
 * training has changed the statistics, and weights transformed for Winograd's method.
 */
export class Derived {
  /** The running statistics have changed since the epilogues were computed. */
  stale = true;
  readonly #context: Context;
  readonly #layers: readonly Layer[];
  readonly #parameters: Parameters;
  readonly #folded = new Map<BatchNorm2d, Folded>();
  readonly #transformed = new Map<string, BufferView>();
  #commands: Commands | undefined;

  constructor(context: Context, layers: readonly Layer[], parameters: Parameters) {
    this.#context = context;
    this.#layers = layers;
    this.#parameters = parameters;
  }

  folded(layer: BatchNorm2d): Folded {
    return this.#folded.get(layer) as Folded;
  }

  convWeights(layer: Layer, plan: Conv2dPlan): BufferView {
    return this.#transformed.get(keyOf(layer, plan)) ?? this.#parameters.view(layer, 'weight');
  }

  /**
   * Makes the buffers of the epilogues, and the commands that write them.
   * @throws VGGNetError `OUT_OF_MEMORY`, `DEVICE_LOST`, `GPU_ERROR`
   */
  async prepareFolding(): Promise<void> {
    if (this.#commands) return;
    const pairs = this.#layers.flatMap((layer, i) => {
      const before = this.#layers[i - 1];
      return layer.op === 'batchNorm2d' && before?.op === 'conv2d' ? [{ conv: before, norm: layer }] : [];
    });
    const made = this.#context.attempt('the epilogues of batch norm', () => {
      for (const { norm } of pairs)
        this.#folded.set(norm, { scale: this.#vector(norm, 'scale'), shift: this.#vector(norm, 'shift') });
    });
    await made.checked;
    this.#commands = await Commands.prepare(
      this.#context,
      pairs.map(({ conv, norm }) => ({ label: `folding ${norm.name}`, dispatches: this.#fold(conv, norm) })),
    );
  }

  #vector(layer: BatchNorm2d, name: string): BufferView {
    const buffer = this.#context.createBuffer(`${layer.name}.${name}`, padded(layer.channels) * 4, USAGE.storage);
    return { buffer, offset: 0, size: buffer.size };
  }

  #fold(conv: Conv2d, norm: BatchNorm2d): ReturnType<typeof foldBatchNorm> {
    const of = (key: string): BufferView => this.#parameters.view(norm, key);
    return foldBatchNorm(norm, {
      convBias: this.#parameters.view(conv, 'bias'),
      runningMean: of('running_mean'),
      runningVar: of('running_var'),
      weight: of('weight'),
      bias: of('bias'),
      ...this.folded(norm),
    });
  }

  /** Recomputes the epilogues if they are stale. */
  encodeFolding(encoder: GPUCommandEncoder): void {
    if (this.stale) this.#commands?.encodePass(encoder, 'folding batch norm');
    this.stale = false;
  }

  /** Transforms the weights of a convolution, once for each layer and algorithm. */
  async prepareWeights(layer: Layer, plan: Conv2dPlan): Promise<void> {
    const key = keyOf(layer, plan);
    if (plan.weightBytes === 0 || this.#transformed.has(key)) return;
    const label = `weights of ${layer.name} for ${plan.algorithm}`;
    const made = this.#context.attempt(label, () => this.#context.createBuffer(label, plan.weightBytes, USAGE.storage));
    const transformed = { buffer: made.result, offset: 0, size: made.result.size };
    try {
      await made.checked;
      const packed = this.#parameters.view(layer, 'weight');
      const dispatches = conv2dWeights(plan, { packed, transformed });
      const commands = await Commands.prepare(this.#context, [{ label, dispatches }]);
      try {
        await this.#context.submit(label, (encoder) => commands.encodePass(encoder, label));
      } finally {
        commands.destroy();
      }
      this.#transformed.set(key, transformed);
    } catch (error) {
      this.#context.destroyBuffer(made.result);
      throw error;
    }
  }

  destroy(): void {
    for (const { scale, shift } of this.#folded.values()) {
      this.#context.destroyBuffer(scale.buffer);
      this.#context.destroyBuffer(shift.buffer);
    }
    for (const { buffer } of this.#transformed.values()) this.#context.destroyBuffer(buffer);
    this.#commands?.destroy();
  }
}

const keyOf = (layer: Layer, { algorithm }: Conv2dPlan): string => `${layer.path} ${algorithm}`;
