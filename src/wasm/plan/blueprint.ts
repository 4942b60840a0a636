import type { Program, RunOptions } from '../../backend.js';
import type { Layer } from '../../program/layers.js';
import type { Form } from './algorithm.js';
import { chooseForms, keptBytes, type MemoryOptions } from './memory.js';
import { MAX_BYTES } from './pages.js';
import { makePlan, type Plan, type Planner } from './plan.js';

/** What an engine is made of; all that can be decided about it has been. */
export interface Blueprint {
  readonly layers: readonly Layer[];
  /** In which form each layer's weights are kept. */
  readonly forms: readonly Form[];
  /** How many compute: the one that the engine lives on, and `threads` − 1 that run `helper` on its memory. */
  readonly threads: number;
  /** Bytes that the engine's memory must not pass. */
  readonly memoryLimit: number | undefined;
}

/** Plans kept for input shapes seen lately. */
const MAX_PLANS = 8;

/**
 * What the caller's side decides of a program: its blueprint, and a plan for each run. The engine, which is mostly in a
 * worker, carries them out, so that a worker's script has none of this.
 */
export class Plans {
  readonly blueprint: Blueprint;
  readonly #planner: Planner;
  readonly #plans = new Map<string, Plan>();

  /** @throws VGGNetError `OUT_OF_MEMORY` if the weights do not fit, as `chooseForms` */
  constructor(program: Program, options: MemoryOptions) {
    const { layers } = program;
    const { winograd, threads, memoryLimit, int8 } = options;
    const forms = chooseForms(program, options);
    this.blueprint = { layers, forms, threads, memoryLimit };
    const limit = Math.min(memoryLimit ?? MAX_BYTES, MAX_BYTES);
    this.#planner = {
      layers,
      forms,
      forced: typeof winograd === 'number',
      int8,
      threads,
      arenaLimit: limit - keptBytes(layers, forms, threads),
    };
  }

  /** @throws VGGNetError `UNKNOWN_LAYER` */
  plan(shape: readonly number[], options: RunOptions): Plan {
    const key = JSON.stringify([shape, options.outputs, options.mode]);
    let plan = this.#plans.get(key);
    if (!plan) {
      plan = makePlan(this.#planner, shape, options);
      this.#plans.set(key, plan);
      const oldest = this.#plans.keys().next().value as string;
      if (this.#plans.size > MAX_PLANS) this.#plans.delete(oldest);
    }
    return plan;
  }
}
