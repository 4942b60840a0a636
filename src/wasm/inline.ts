import type { Executable, ParameterStream, Program, RunOptions, StepTime } from '../backend.js';
import { throwIfAborted, VGGNetError } from '../errors.js';
import { Tensor } from '../tensor.js';
import { Engine, type EngineOptions } from './engine.js';
import { pause } from './pause.js';

/** What an engine threw, typed: whatever is not ours is a kernel that trapped, or a fault in the engine. */
export function engineError(thrown: unknown): VGGNetError {
  if (thrown instanceof VGGNetError) return thrown;
  const text = thrown instanceof Error ? thrown.message : String(thrown);
  return new VGGNetError('WORKER_CRASHED', `The engine failed: ${text}`, { cause: thrown });
}

/** An engine on this thread, with a queue before it: it is what a worker runs, and what stands in for one. */
export class InlineExecutable implements Executable {
  #engine: Engine | undefined;
  /** Settles, and never rejects, when all that was asked for so far is done. */
  #idle: Promise<unknown> = Promise.resolve();

  constructor(engine: Engine) {
    this.#engine = engine;
  }

  static async compile(
    module: WebAssembly.Module,
    program: Program,
    options: EngineOptions,
    parameters: ParameterStream,
    signal?: AbortSignal,
  ): Promise<InlineExecutable> {
    const engine = await Engine.create(module, program, options);
    for await (const chunk of parameters) {
      throwIfAborted(signal);
      engine.writeParameter(chunk);
    }
    engine.finishParameters();
    return new InlineExecutable(engine);
  }

  run(input: Tensor, options: RunOptions): Promise<Tensor[]> {
    return this.#run(input, options);
  }

  async profile(input: Tensor, options: RunOptions): Promise<StepTime[]> {
    const times: StepTime[] = [];
    await this.#run(input, options, (time) => times.push(time));
    return times;
  }

  #run(input: Tensor, options: RunOptions, onStep: (time: StepTime) => void = () => {}): Promise<Tensor[]> {
    const copy = new Tensor(input.data.slice(), input.shape);
    const aborted = (): boolean => {
      this.#live();
      return options.signal?.aborted ?? false;
    };
    return this.#enqueue((engine) => {
      throwIfAborted(options.signal);
      return engine.run(copy, options, { pause, aborted, onStep });
    });
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
