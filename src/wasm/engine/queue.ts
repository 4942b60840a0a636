import type { RunOptions, StepTime } from '../../backend.js';
import { disposedError, messageOf, throwIfAborted, VGGNetError } from '../../errors.js';
import { pause } from '../../platform/event-loop.js';
import { SerialQueue } from '../../serial-queue.js';
import type { TensorData } from '../../tensor.js';
import type { Plan } from '../plan/plan.js';
import type { Engine } from './engine.js';

/** A typed error for whatever an engine threw: what is no VGGNetError is a kernel's trap or a fault of the engine. */
export function engineError(thrown: unknown): VGGNetError {
  if (thrown instanceof VGGNetError) return thrown;
  const text = messageOf(thrown);
  return new VGGNetError('WORKER_CRASHED', `The engine failed: ${text}`, { cause: thrown });
}

/** An engine behind a queue: requests run one after another. */
export class EngineQueue {
  #engine: Engine | undefined;
  readonly #queue = new SerialQueue();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  /** @param input must not change until the run is done */
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

  /** Waits for earlier runs, and so never sees the statistics of half a run. */
  readParameter(name: string): Promise<Float32Array> {
    return this.#enqueue(async (engine) => engine.readParameter(name));
  }

  dispose(): void {
    this.#engine = undefined;
  }

  #enqueue<T>(job: (engine: Engine) => Promise<T>): Promise<T> {
    return this.#queue.run(async () => {
      try {
        return await job(this.#live());
      } catch (thrown) {
        throw engineError(thrown);
      }
    });
  }

  #live(): Engine {
    if (!this.#engine) throw disposedError();
    return this.#engine;
  }
}
