import type { RunOptions, StepTime } from '../../backend.js';
import { messageOf, throwIfAborted, VGGNetError } from '../../errors.js';
import { pause } from '../../platform/event-loop.js';
import type { TensorData } from '../../tensor.js';
import type { Plan } from '../plan/plan.js';
import type { Engine } from './engine.js';

/** What an engine threw, typed: whatever is not ours is a kernel that trapped, or a fault in the engine. */
export function engineError(thrown: unknown): VGGNetError {
  if (thrown instanceof VGGNetError) return thrown;
  const text = messageOf(thrown);
  return new VGGNetError('WORKER_CRASHED', `The engine failed: ${text}`, { cause: thrown });
}

/** An engine with a queue before it: what it is asked for is done one after another. */
export class EngineQueue {
  #engine: Engine | undefined;
  /** Settles, and never rejects, when all that was asked for so far is done. */
  #idle: Promise<unknown> = Promise.resolve();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** @param input belongs to the queue until it is done */
  run(
    input: TensorData,
    plan: Plan,
    options: RunOptions,
    onStep: (time: StepTime) => void = () => {},
  ): Promise<TensorData[]> {
    const aborted = (): boolean => {
      this.#live();
      return options.signal?.aborted ?? false;
    };
    return this.#enqueue((engine) => {
      throwIfAborted(options.signal);
      return engine.run(input, plan, options, { pause, aborted, onStep });
    });
  }

  async profile(input: TensorData, plan: Plan, options: RunOptions): Promise<StepTime[]> {
    const times: StepTime[] = [];
    await this.run(input, plan, options, (time) => times.push(time));
    return times;
  }

  /** Waits for the runs before it, so that it never sees the statistics of half a run. */
  readParameter(name: string): Promise<Float32Array> {
    return this.#enqueue(async (engine) => engine.readParameter(name));
  }

  dispose(): void {
    this.#engine = undefined;
  }

  #enqueue<T>(job: (engine: Engine) => Promise<T>): Promise<T> {
    const result = this.#idle
      .then(() => job(this.#live()))
      .catch((thrown) => {
        throw engineError(thrown);
      });
    this.#idle = result.catch(() => undefined);
    return result;
  }

  #live(): Engine {
    if (!this.#engine) throw new VGGNetError('DISPOSED', 'This model was disposed of');
    return this.#engine;
  }
}
