import type { Executable, ParameterChunk, ParameterStream, Program, RunOptions } from '../backend.js';
import { throwIfAborted, VGGNetError } from '../errors.js';
import { Tensor } from '../tensor.js';
import { spawnWorker, type WorkerHandle } from './assets.js';
import type { FromWorker, Request, Result } from './protocol.js';

/** Chunks of parameters on their way to the worker at once: it packs one while the next is read. */
const IN_FLIGHT = 2;

interface Pending {
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/** An engine in a worker, so that the caller's thread stays free. */
export class WorkerExecutable implements Executable {
  readonly #worker: WorkerHandle;
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;
  /** Why the worker can't be used any more. */
  #ended: VGGNetError | undefined;

  private constructor() {
    this.#worker = spawnWorker({
      onMessage: (message) => this.#receive(message),
      onEnd: (why) => {
        this.#end(new VGGNetError('WORKER_CRASHED', `The worker that ran this model ended: ${why}`));
      },
    });
    this.#worker.idle();
  }

  static async compile(
    module: WebAssembly.Module,
    program: Program,
    parameters: ParameterStream,
    signal?: AbortSignal,
  ): Promise<WorkerExecutable> {
    const executable = new WorkerExecutable();
    try {
      await executable.#ask({ type: 'create', module, program });
      await executable.#writeAll(parameters, signal);
      await executable.#ask({ type: 'finish' });
      return executable;
    } catch (error) {
      executable.dispose();
      throw error;
    }
  }

  async run(input: Tensor, { outputs, mode, seed, signal }: RunOptions): Promise<Tensor[]> {
    throwIfAborted(signal);
    const data = input.data.slice();
    const id = this.#nextId;
    const abort = (): void => this.#worker.post({ id, abort: true }, []);
    const answer = this.#ask({ type: 'run', data, shape: input.shape, options: { outputs, mode, seed } }, [
      data.buffer,
    ]);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      const results = (await answer) as { data: Float32Array; shape: readonly number[] }[];
      return results.map((result) => new Tensor(result.data, result.shape));
    } catch (error) {
      // The reason is the caller's own object, which no message carries.
      throwIfAborted(error instanceof VGGNetError && error.code === 'ABORTED' ? signal : undefined);
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  async readParameter(name: string): Promise<Float32Array> {
    return (await this.#ask({ type: 'read', name })) as Float32Array;
  }

  dispose(): void {
    this.#end(new VGGNetError('DISPOSED', 'This model was disposed of'));
  }

  async #writeAll(parameters: ParameterStream, signal: AbortSignal | undefined): Promise<void> {
    const underWay: Promise<Result>[] = [];
    try {
      for await (const chunk of parameters) {
        throwIfAborted(signal);
        const own = ownBuffer(chunk);
        underWay.push(this.#ask({ type: 'write', chunk: own }, [own.data.buffer as ArrayBuffer]));
        if (underWay.length > IN_FLIGHT) await underWay.shift();
      }
      await Promise.all(underWay);
    } finally {
      // Whatever ended the loop is reported; the others must not be unhandled.
      for (const write of underWay) write.catch(() => undefined);
    }
  }

  #ask(request: Request, transfer: Transferable[] = []): Promise<Result> {
    return new Promise((resolve, reject) => {
      if (this.#ended) {
        reject(this.#ended);
        return;
      }
      const id = this.#nextId++;
      this.#pending.set(id, { resolve, reject });
      this.#worker.busy();
      this.#worker.post({ id, request }, transfer);
    });
  }

  #receive(message: FromWorker): void {
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (this.#pending.size === 0) this.#worker.idle();
    if ('error' in message) {
      const { code, message: text, stack } = message.error;
      const error = code
        ? new VGGNetError(code, text)
        : new VGGNetError('WORKER_CRASHED', `The engine failed: ${text}`);
      error.cause ??= stack;
      pending?.reject(error);
    } else {
      pending?.resolve(message.result);
    }
  }

  #end(error: VGGNetError): void {
    if (this.#ended) return;
    this.#ended = error;
    this.#worker.terminate();
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}

/** The chunk with a buffer that it fills, which can be transferred without taking others' values along. */
function ownBuffer(chunk: ParameterChunk): ParameterChunk {
  const { data } = chunk;
  return data.byteLength === data.buffer.byteLength ? chunk : { ...chunk, data: data.slice() };
}
