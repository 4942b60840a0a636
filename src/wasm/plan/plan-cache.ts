import type { Program, RunOptions } from '../../backend.js';
import type { Layer } from '../../program/layers.js';
import type { Algorithm } from './algorithm.js';
import { chooseAlgorithms, keptBytes, type MemoryOptions } from './memory.js';
import { MAX_BYTES } from './pages.js';
import { makePlan, type Plan, type PlanOptions } from './plan.js';

/** What an engine is made from: every choice about a program that does not depend on an input. */
export interface EngineConfig {
  readonly layers: readonly Layer[];
  /** The algorithm that each layer's weights are stored for. */
  readonly algorithms: readonly Algorithm[];
  /** Threads that compute: the engine's own, and `threads` − 1 that run `helper` on its memory. */
  readonly threads: number;
  /** Most bytes of the engine's memory. */
  readonly memoryLimit: number | undefined;
}

const MAX_PLANS = 8;

/**
 * The plans of a program, of which the eight used last are kept. Planning happens on the caller's thread; the engine,
 * usually in a worker, only executes plans, so the worker's script contains no planner.
 */
export class PlanCache {
  readonly config: EngineConfig;
  readonly #options: PlanOptions;
  /** The least recently used one first. */
  readonly #plans = new Map<string, Plan>();

  /** @throws VGGNetError `OUT_OF_MEMORY` if the weights do not fit, as `chooseAlgorithms` */
  constructor(program: Program, options: MemoryOptions) {
    const { layers } = program;
    const { winograd, threads, memoryLimit, int8 } = options;
    const algorithms = chooseAlgorithms(program, options);
    this.config = { layers, algorithms, threads, memoryLimit };
    const limit = Math.min(memoryLimit ?? MAX_BYTES, MAX_BYTES);
    this.#options = {
      layers,
      algorithms,
      forced: typeof winograd === 'number',
      int8,
      threads,
      arenaLimit: limit - keptBytes(layers, algorithms, threads),
    };
  }

  /** @throws VGGNetError `UNKNOWN_LAYER` */
  plan(shape: readonly number[], run: RunOptions): Plan {
    const key = JSON.stringify([shape, run.outputs, run.mode]);
    const plan = this.#plans.get(key) ?? makePlan(this.#options, shape, run);
    this.#plans.delete(key);
    this.#plans.set(key, plan);
    if (this.#plans.size > MAX_PLANS) this.#plans.delete(this.#plans.keys().next().value as string);
    return plan;
  }
}
