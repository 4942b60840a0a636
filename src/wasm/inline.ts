import type { Executable, ParameterStream, Program, RunOptions, StepTime } from '../backend.js';
import { throwIfAborted } from '../errors.js';
import { Tensor, type TensorData } from '../tensor.js';
import { Engine, type EngineOptions } from './engine.js';
import { EngineQueue } from './queue.js';

/** An engine on this thread: it stands in for a worker's. */
export class InlineExecutable implements Executable {
  readonly #queue: EngineQueue;

  private constructor(engine: Engine) {
    this.#queue = new EngineQueue(engine);
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

  async run(input: Tensor, options: RunOptions): Promise<Tensor[]> {
    const results = await this.#queue.run(copyOf(input), options);
    return results.map(({ data, shape }) => new Tensor(data, shape));
  }

  profile(input: Tensor, options: RunOptions): Promise<StepTime[]> {
    return this.#queue.profile(copyOf(input), options);
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
