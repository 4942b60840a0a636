import type { Executable, ParameterChunk, ParameterStream, RunOptions, StepTime } from '../../backend.js';
import { throwIfAborted, VGGNetError } from '../../errors.js';
import { Tensor, type TensorData } from '../../tensor.js';
import type { Team } from '../engine/engine.js';
import type { Plans } from '../plan/blueprint.js';
import { Crew, type Job } from './pool.js';
import type { Result } from './protocol.js';

/** Chunks of parameters on their way to the worker at once: it packs one while the next is read. */
const IN_FLIGHT = 2;

/**
 * An engine in a worker, so that the caller's thread stays free.
 *
 * When a worker ends, or a kernel traps, the calls in progress and those that wait reject with `WORKER_CRASHED`. With
 * several threads the weights are in shared memory that outlives the workers: the next call starts new ones on it, and
 * they give the same bits. Every call tries that once. With one thread the memory dies with its worker, and every later
 * call rejects too; a trap leaves the worker alive, and only the call that met it rejects.
 *
 * A forward never writes to weights. In train mode the running statistics change all together when it is complete, so
 * one that was stopped, or trapped, has changed none of them.
 */
export class WorkerExecutable implements Executable {
  readonly #plans: Plans;
  readonly #job: Job;
  #crew: Crew;
  /** The shared memory with the weights, when they are all there. */
  #team: Team | undefined;
  #loaded = false;
  /** Settles as the last call's crew is ready: calls begin in the order in which they were made. */
  #last: Promise<unknown> = Promise.resolve();
  /** Why it can't be used any more. */
  #ended: VGGNetError | undefined;

  private constructor(module: WebAssembly.Module, plans: Plans) {
    this.#plans = plans;
    this.#job = { module, blueprint: plans.blueprint };
    this.#crew = this.#newCrew();
  }

  static async compile(
    module: WebAssembly.Module,
    plans: Plans,
    parameters: ParameterStream,
    signal?: AbortSignal,
  ): Promise<WorkerExecutable> {
    const executable = new WorkerExecutable(module, plans);
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
    const crew = await this.#ready();
    throwIfAborted(signal);
    const request = { type, data, shape, plan, options };
    try {
      return await crew.ask(request, [data.buffer], signal);
    } catch (error) {
      // The reason is the caller's own object, which no message carries.
      throwIfAborted(error instanceof VGGNetError && error.code === 'ABORTED' ? signal : undefined);
      throw error;
    }
  }

  async readParameter(name: string): Promise<Float32Array> {
    return (await (await this.#ready()).ask({ type: 'read', name })) as Float32Array;
  }

  dispose(): void {
    this.#end(new VGGNetError('DISPOSED', 'This model was disposed of'));
  }

  async #load(parameters: ParameterStream, signal: AbortSignal | undefined): Promise<void> {
    this.#team = await this.#crew.start();
    await this.#writeAll(parameters, signal);
    await this.#crew.ask({ type: 'finish' });
    this.#loaded = true;
  }

  async #writeAll(parameters: ParameterStream, signal: AbortSignal | undefined): Promise<void> {
    const underWay: Promise<void>[] = [];
    const buffers: ArrayBuffer[] = [];
    const chunks = parameters[Symbol.asyncIterator]();
    /** The next chunk, or the end of the workers, whichever comes first: a stream may stall. */
    const next = (): Promise<IteratorResult<ParameterChunk>> => Promise.race([chunks.next(), this.#crew.failure]);
    try {
      for (let chunk = await next(); !chunk.done; chunk = await next()) {
        throwIfAborted(signal);
        const write = this.#write(chunk.value, buffers);
        // If the worker ends while the next chunk is read, this fails before it is looked at.
        write.catch(() => undefined);
        underWay.push(write);
        if (underWay.length > IN_FLIGHT) await underWay.shift();
      }
      await Promise.all(underWay);
    } finally {
      // Not awaited: it comes after the chunk that is waited for. Who opened the stream closes it.
      chunks.return?.().catch(() => undefined);
    }
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
    const back = await this.#crew.ask({ type: 'write', chunk: { name, offset, data: copy } }, [buffer]);
    buffers.push((back as Float32Array<ArrayBuffer>).buffer);
  }

  /** The workers, or new ones if those have crashed. */
  #ready(): Promise<Crew> {
    const crew = this.#last.then(() => (this.#crew.error ? this.#heal() : this.#crew));
    this.#last = crew.catch(() => undefined);
    return crew;
  }

  async #heal(): Promise<Crew> {
    const team = this.#team;
    if (!team || this.#ended) throw this.#ended ?? this.#crew.error;
    if (!(await this.#crew.stopped())) {
      const why = 'A worker that crashed could not be stopped, and may still write to the memory: load the model again';
      this.#end(new VGGNetError('WORKER_CRASHED', why));
    }
    if (this.#ended) throw this.#ended;
    this.#crew = this.#newCrew();
    await this.#crew.start(team);
    return this.#crew;
  }

  #newCrew(): Crew {
    const describe = (why: string): string => {
      if (!this.#loaded) return `A worker ended while the model was loaded: ${why}`;
      return this.#team
        ? `A worker that ran this model failed: ${why}. The next call starts new ones on the same weights`
        : `The worker that ran this model ended, and its weights with it: ${why}. Load the model again`;
    };
    return new Crew(this.#job, describe);
  }

  #end(error: VGGNetError): void {
    if (this.#ended) return;
    this.#ended = error;
    this.#team = undefined;
    this.#crew.end(error);
  }
}
