import type { Executable, ParameterStream, RunOptions, StepTime } from '../../backend.js';
import { throwIfAborted } from '../../errors.js';
import { Tensor, type TensorData } from '../../tensor.js';
import { Engine } from '../engine/engine.js';
import { EngineQueue } from '../engine/queue.js';
import type { PlanCache } from '../plan/plan-cache.js';

/** An engine on the caller's thread, for runtimes without workers. */
export class InlineExecutable implements Executable {
  readonly #plans: PlanCache;
  readonly #queue: EngineQueue;

  private constructor(plans: PlanCache, engine: Engine) {
    this.#plans = plans;
    this.#queue = new EngineQueue(engine);
  }

  static async compile(
    module: WebAssembly.Module,
    plans: PlanCache,
    parameters: ParameterStream,
    signal?: AbortSignal,
  ): Promise<InlineExecutable> {
    const engine = await Engine.create(module, plans.config);
    for await (const chunk of parameters) {
      throwIfAborted(signal);
      engine.writeParameter(chunk);
    }
    engine.finishParameters();
    return new InlineExecutable(plans, engine);
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
