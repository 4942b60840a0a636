import type { Executable, ParameterChunk, ParameterStream, RunOptions, StepTime } from '../../backend.js';
import { disposedError, throwIfAborted, VGGNetError } from '../../errors.js';
import { SerialQueue } from '../../serial-queue.js';
import { Tensor, type TensorData } from '../../tensor.js';
import type { SharedMemory } from '../engine/engine.js';
import type { PlanCache } from '../plan/plan-cache.js';
import { type EngineSource, WorkerPool } from './pool.js';
import type { Result } from './protocol.js';

/** Chunks of parameters on their way to the worker: it packs one while the next is read. */
const IN_FLIGHT = 2;

/**
 * An engine in a worker, which keeps the caller's thread free.
 *
 * When a worker ends or a kernel traps, pending calls reject with `WORKER_CRASHED`. With several threads the weights are in
 * shared memory, which outlives the workers: the next call starts new ones on it, and results are the same to the bit.
 * Every call tries that once. With one thread the memory ends with its worker, and later calls reject too; a trap leaves
 * the worker alive, and only the call that met it rejects.
 *
 * A forward never writes to weights. In train mode all running statistics change together at its end, so a forward that
 * was aborted or trapped has changed none of them.
 */
export class RemoteExecutable implements Executable {
  readonly #plans: PlanCache;
  readonly #source: EngineSource;
  #pool: WorkerPool;
  /** The memory with the weights, if it is shared. */
  #memory: SharedMemory | undefined;
  #loaded = false;
  /** Waits for the pool call by call, so that calls start in the order in which they were made. */
  readonly #queue = new SerialQueue();
  /** Set once it can't be used any more. */
  #ended: VGGNetError | undefined;

  private constructor(module: WebAssembly.Module, plans: PlanCache) {
    this.#plans = plans;
    this.#source = { module, config: plans.config };
    this.#pool = this.#newPool();
  }

  static async compile(
    module: WebAssembly.Module,
    plans: PlanCache,
    parameters: ParameterStream,
    signal?: AbortSignal,
  ): Promise<RemoteExecutable> {
    const executable = new RemoteExecutable(module, plans);
    try {
      await executable.#load(parameters, signal);
      return executable;
    } catch (error) {
      executable.dispose();
      throw error;
    }
  }

  async run(input: Tensor, options: RunOptions): Promise<Tensor[]> {
    const results = (await this.#run('run', input, options)) as TensorData[];
    return results.map(({ data, shape }) => new Tensor(data, shape));
  }

  async profile(input: Tensor, options: RunOptions): Promise<StepTime[]> {
    return (await this.#run('profile', input, options)) as StepTime[];
  }

  async #run(type: 'run' | 'profile', input: Tensor, { outputs, mode, seed, signal }: RunOptions): Promise<Result> {
    throwIfAborted(signal);
    const data = input.data.slice();
    const { shape } = input;
    const options = { outputs, mode, seed };
    const plan = this.#plans.plan(shape, options);
    const pool = await this.#ready();
    throwIfAborted(signal);
    const request = { type, data, shape, plan, options };
    try {
      return await pool.ask(request, [data.buffer], signal);
    } catch (error) {
      // Throws the signal's reason, which no message can carry.
      throwIfAborted(error instanceof VGGNetError && error.code === 'ABORTED' ? signal : undefined);
      throw error;
    }
  }

  async readParameter(name: string): Promise<Float32Array> {
    return (await (await this.#ready()).ask({ type: 'read', name })) as Float32Array;
  }

  dispose(): void {
    this.#end(disposedError());
  }

  async #load(parameters: ParameterStream, signal: AbortSignal | undefined): Promise<void> {
    this.#memory = await this.#pool.start();
    await this.#writeAll(parameters, signal);
    await this.#pool.ask({ type: 'finish' });
    this.#loaded = true;
  }

  async #writeAll(parameters: ParameterStream, signal: AbortSignal | undefined): Promise<void> {
    const underWay: Promise<void>[] = [];
    const buffers: ArrayBuffer[] = [];
    const chunks = parameters[Symbol.asyncIterator]();
    /** Also rejects when a worker fails, since a stream may stall. */
    const next = (): Promise<IteratorResult<ParameterChunk>> => Promise.race([chunks.next(), this.#pool.failure]);
    try {
      for (let chunk = await next(); !chunk.done; chunk = await next()) {
        throwIfAborted(signal);
        const write = this.#write(chunk.value, buffers);
        // It may reject while the next chunk is read, before it is awaited.
        write.catch(() => undefined);
        underWay.push(write);
        if (underWay.length > IN_FLIGHT) await underWay.shift();
      }
      await Promise.all(underWay);
    } finally {
      // Not awaited: it would wait for the chunk being read. The opener of the stream closes it.
      chunks.return?.().catch(() => undefined);
    }
  }

  /**
   * Sends a chunk in a buffer that comes back for the next one: buffers left to the worker's garbage collector would pile
   * up in addition to the weights.
   */
  async #write({ name, offset, data }: ParameterChunk, buffers: ArrayBuffer[]): Promise<void> {
    const spare = buffers.pop();
    const buffer = spare && spare.byteLength >= data.byteLength ? spare : new ArrayBuffer(data.byteLength);
    const copy = new Float32Array(buffer, 0, data.length);
    copy.set(data);
    const back = await this.#pool.ask({ type: 'write', chunk: { name, offset, data: copy } }, [buffer]);
    buffers.push((back as Float32Array<ArrayBuffer>).buffer);
  }

  /** The workers, replaced by new ones if they have crashed. */
  #ready(): Promise<WorkerPool> {
    return this.#queue.run(() => (this.#pool.error ? this.#heal() : this.#pool));
  }

  async #heal(): Promise<WorkerPool> {
    const shared = this.#memory;
    if (!shared || this.#ended) throw this.#ended ?? this.#pool.error;
    if (!(await this.#pool.stopped())) {
      const why = 'A crashed worker could not be stopped and may still write to the memory; load the model again';
      this.#end(new VGGNetError('WORKER_CRASHED', why));
    }
    if (this.#ended) throw this.#ended;
    this.#pool = this.#newPool();
    await this.#pool.start(shared);
    return this.#pool;
  }

  #newPool(): WorkerPool {
    const describe = (why: string): string => {
      if (!this.#loaded) return `A worker ended while the model was loaded: ${why}`;
      return this.#memory
        ? `A worker that ran this model failed: ${why}. The next call starts new ones on the same weights`
        : `The worker that ran this model ended, and its weights with it: ${why}. Load the model again`;
    };
    return new WorkerPool(this.#source, describe);
  }

  #end(error: VGGNetError): void {
    if (this.#ended) return;
    this.#ended = error;
    this.#memory = undefined;
    this.#pool.end(error);
  }
}
