import type { Executable, ParameterChunk, ParameterStream, Program, RunOptions, StepTime } from '../backend.js';
import { throwIfAborted, VGGNetError } from '../errors.js';
import { Tensor } from '../tensor.js';
import { spawnWorker, type WorkerHandle } from './assets.js';
import type { EngineOptions, Team } from './engine.js';
import type { FromWorker, Request, Result } from './protocol.js';

/** Chunks of parameters on their way to the worker at once: it packs one while the next is read. */
const IN_FLIGHT = 2;

interface Pending {
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/** An engine in a worker, so that the caller's thread stays free. */
export class WorkerExecutable implements Executable {
  /** The engine's own. */
  readonly #worker: WorkerHandle;
  readonly #helpers: WorkerHandle[] = [];
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;
  /** Why the worker can't be used any more. */
  #ended: VGGNetError | undefined;

  private constructor() {
    this.#worker = this.#spawn((message) => this.#receive(message));
  }

  static async compile(
    module: WebAssembly.Module,
    program: Program,
    options: EngineOptions,
    parameters: ParameterStream,
    signal?: AbortSignal,
  ): Promise<WorkerExecutable> {
    const executable = new WorkerExecutable();
    try {
      const team = (await executable.#ask({ type: 'create', module, program, options })) as Team | undefined;
      if (team) await executable.#spawnHelpers(module, team, options.threads);
      await executable.#writeAll(parameters, signal);
      await executable.#ask({ type: 'finish' });
      return executable;
    } catch (error) {
      executable.dispose();
      throw error;
    }
  }

  /** Starts a worker that ends the whole with it if it ends. Like all of them it lets the process go while it idles. */
  #spawn(onMessage: (message: FromWorker) => void): WorkerHandle {
    const worker = spawnWorker({
      onMessage,
      onEnd: (why) => {
        this.#end(new VGGNetError('WORKER_CRASHED', `A worker that ran this model ended: ${why}`));
      },
    });
    worker.idle();
    return worker;
  }

  /** Starts the threads that help the engine's worker, and waits until they are ready to. */
  async #spawnHelpers(module: WebAssembly.Module, team: Team, threads: number): Promise<void> {
    const ready = Array.from({ length: threads - 1 }, (_, i) => {
      return new Promise<void>((resolve, reject) => {
        const helper = this.#spawn((message) => {
          if ('error' in message)
            reject(new VGGNetError('WORKER_CRASHED', `A thread failed: ${message.error.message}`));
          else resolve();
        });
        this.#helpers.push(helper);
        this.#pending.set(-1 - i, { resolve: () => resolve(), reject });
        helper.busy();
        helper.post({ id: -1 - i, request: { type: 'help', module, team, thread: i + 1, threads } }, []);
      }).finally(() => {
        this.#pending.delete(-1 - i);
        this.#helpers[i]?.idle();
      });
    });
    await Promise.all(ready);
  }

  async run(input: Tensor, options: RunOptions): Promise<Tensor[]> {
    const results = (await this.#run('run', input, options)) as { data: Float32Array; shape: readonly number[] }[];
    return results.map(({ data, shape }) => new Tensor(data, shape));
  }

  async profile(input: Tensor, options: RunOptions): Promise<StepTime[]> {
    return (await this.#run('profile', input, options)) as StepTime[];
  }

  async #run(type: 'run' | 'profile', input: Tensor, { outputs, mode, seed, signal }: RunOptions): Promise<Result> {
    throwIfAborted(signal);
    const data = input.data.slice();
    const id = this.#nextId;
    const abort = (): void => this.#worker.post({ id, abort: true }, []);
    const answer = this.#ask({ type, data, shape: input.shape, options: { outputs, mode, seed } }, [data.buffer]);
    signal?.addEventListener('abort', abort, { once: true });
    try {
      return await answer;
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
    const underWay: Promise<void>[] = [];
    const buffers: ArrayBuffer[] = [];
    for await (const chunk of parameters) {
      throwIfAborted(signal);
      const write = this.#write(chunk, buffers);
      // If the worker ends while the next chunk is read, this fails before it is looked at.
      write.catch(() => undefined);
      underWay.push(write);
      if (underWay.length > IN_FLIGHT) await underWay.shift();
    }
    await Promise.all(underWay);
  }

  /**
   * Sends a chunk in a buffer that comes back for the next one: buffers left to the worker's garbage collector would
   * pile up beside the weights.
   */
  async #write({ name, offset, data }: ParameterChunk, buffers: ArrayBuffer[]): Promise<void> {
    const spare = buffers.pop();
    const buffer = spare && spare.byteLength >= data.byteLength ? spare : new ArrayBuffer(data.byteLength);
    const copy = new Float32Array(buffer, 0, data.length);
    copy.set(data);
    const back = await this.#ask({ type: 'write', chunk: { name, offset, data: copy } }, [buffer]);
    buffers.push((back as Float32Array<ArrayBuffer>).buffer);
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
    for (const worker of [this.#worker, ...this.#helpers]) worker.terminate();
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}
