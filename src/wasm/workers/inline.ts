import type { Autograd, Executable, ParameterStream, RunOptions, StepTime } from '../../backend.js';
import { throwIfAborted } from '../../errors.js';
import { Tensor, type TensorData } from '../../tensor.js';
import type { MakeAutograd } from '../autograd.js';
import { Engine } from '../engine/engine.js';
import { EngineQueue } from '../engine/queue.js';
import type { PlanCache } from '../plan/plan-cache.js';
import type { MakeTraining } from './requests.js';

/** What computes gradients, loaded if they are asked for. */
export interface InlineTraining {
  readonly makeAutograd: MakeAutograd;
  readonly makeTraining: MakeTraining;
}

/** An engine on the caller's thread, for runtimes without workers. */
export class InlineExecutable implements Executable {
  readonly #plans: PlanCache;
  readonly #queue: EngineQueue;
  readonly autograd?: Autograd;

  private constructor(plans: PlanCache, engine: Engine, training?: InlineTraining) {
    this.#plans = plans;
    this.#queue = new EngineQueue(engine);
    if (!training) return;
    const answer = training.makeTraining(engine, plans.config);
    this.autograd = training.makeAutograd((request, _, signal) => answer(this.#queue, request, signal));
  }

  static async compile(
    module: WebAssembly.Module,
    plans: PlanCache,
    parameters: ParameterStream,
    signal?: AbortSignal,
    training?: InlineTraining,
  ): Promise<InlineExecutable> {
    const engine = await Engine.create(module, plans.config);
    for await (const chunk of parameters) {
      throwIfAborted(signal);
      engine.writeParameter(chunk);
    }
    engine.finishParameters();
    return new InlineExecutable(plans, engine, training);
  }

  async run(input: Tensor, options: RunOptions): Promise<Tensor[]> {
    const results = await this.#queue.run(copyOf(input), this.#plans.plan(input.shape, options), options);
    return results.map(({ data, shape }) => new Tensor(data, shape));
  }

  async profile(input: Tensor, options: RunOptions): Promise<StepTime[]> {
    return await this.#queue.profile(copyOf(input), this.#plans.plan(input.shape, options), options);
  }

  readParameter(name: string): Promise<Float32Array> {
    return this.#queue.readParameter(name);
  }

  dispose(): void {
    this.#queue.dispose();
  }
}

function copyOf({ data, shape }: Tensor): TensorData {
  return { data: data.slice(), shape };
}
