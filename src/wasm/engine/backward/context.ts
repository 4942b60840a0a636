import type { RunOptions } from '../../../backend.js';
import type { ReluRule } from '../../../program/gradient.js';
import { BYTES, type Value } from '../../plan/layout.js';
import type { TapeLayer, TapePlan } from '../../plan/tape.js';
import type { EngineParts } from '../engine.js';
import type { Gradients } from '../gradients.js';

/** A gradient in one of the two buffers. */
export interface Gradient {
  readonly value: Value;
  readonly buffer: 0 | 1;
  /**
   * The gradient of a ReLU's output that a max-pool follows: it lies here as that of the pool's output, with the pool's
   * index, and is spread over the windows when it has passed the ReLU.
   */
  readonly pooled?: number | undefined;
}

/** One backward pass: the engine that it runs on, and the tape that it goes back through. */
export class BackwardContext {
  readonly parts: EngineParts;
  readonly gradients: Gradients;
  readonly plan: TapePlan;
  /** Of the forward that was recorded. */
  readonly options: RunOptions;
  readonly reluRule: ReluRule;

  constructor(parts: EngineParts, gradients: Gradients, plan: TapePlan, options: RunOptions, reluRule: ReluRule) {
    this.parts = parts;
    this.gradients = gradients;
    this.plan = plan;
    this.options = options;
    this.reluRule = reluRule;
  }

  layer(index: number): TapeLayer {
    return this.plan.layers[index] as TapeLayer;
  }

  /** The address of a gradient buffer. */
  address(buffer: 0 | 1): number {
    return this.parts.heap.arena + this.plan.gradients[buffer];
  }

  /** The address of a step's workspace. */
  get workspace(): number {
    return this.parts.heap.arena + this.plan.workspace;
  }

  /** Adds sums to the gradient of a parameter of `count` values. */
  add(name: string, sums: Float64Array, count: number): void {
    const { f32 } = this.parts.heap;
    const at = this.gradients.addressOf(name) / BYTES;
    for (let i = 0; i < count; i++) f32[at + i] = (f32[at + i] as number) + (sums[i] as number);
  }
}

export function opposite(buffer: 0 | 1): 0 | 1 {
  return buffer === 0 ? 1 : 0;
}
