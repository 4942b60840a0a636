import { VGGNetError } from '../../errors.js';
import type { SharedMemory } from '../engine/engine.js';
import type { EngineConfig } from '../plan/plan-cache.js';
import { WorkerClient } from './client.js';
import type { Request, Result } from './protocol.js';

/** Milliseconds that workers have to finish their computation, and then to end once terminated. */
const STOP_TIMEOUT = 10_000;
const END_TIMEOUT = 1000;
/** Milliseconds between two wake-ups, for threads that went to sleep just after the last one. */
const WAKE_EVERY = 5;

/** What every worker of a pool needs to make its engine. */
export interface EngineSource {
  readonly module: WebAssembly.Module;
  readonly config: EngineConfig;
}

/**
 * The workers of one engine: its own and the helpers on the same memory. They fail together: if one ends or a kernel traps
 * in it, the others may be waiting for it in the middle of a layer, so all are stopped and none is used again.
 */
export class WorkerPool {
  readonly #source: EngineSource;
  readonly #describe: (why: string) => string;
  readonly #clients: WorkerClient[] = [];
  #memory: SharedMemory | undefined;
  #error: VGGNetError | undefined;
  #failed: (error: VGGNetError) => void = () => {};
  #stopped: Promise<boolean> | undefined;
  #ended: (known: false) => void = () => {};
  /** Rejects when the pool has failed or was ended. */
  readonly failure: Promise<never>;

  /** @param describe makes the caller's error message from the reason why a worker ended */
  constructor(source: EngineSource, describe: (why: string) => string) {
    this.#source = source;
    this.#describe = describe;
    this.failure = new Promise((_, reject) => {
      this.#failed = reject;
    });
    this.failure.catch(() => undefined);
    this.#spawn();
  }

  /** Set once the pool can't be used any more. */
  get error(): VGGNetError | undefined {
    return this.#error;
  }

  /** Makes the engine, on an earlier pool's memory and weights if `shared` is given, and starts the helpers. */
  async start(shared?: SharedMemory): Promise<SharedMemory | undefined> {
    const { module, config } = this.#source;
    if (shared) {
      this.#memory = shared;
      await this.ask({ type: 'attach', ...this.#source, shared });
    } else {
      this.#memory = (await this.ask({ type: 'create', ...this.#source })) as SharedMemory | undefined;
    }
    const made = this.#memory;
    if (!made) return undefined;
    const { threads } = config;
    const ready = Array.from({ length: threads - 1 }, (_, i) => {
      return this.#spawn().ask({ type: 'help', module, shared: made, thread: i + 1, threads });
    });
    await Promise.all(ready);
    return made;
  }

  /** Sends a request to the engine's worker. */
  ask(request: Request, transfer?: Transferable[], signal?: AbortSignal): Promise<Result> {
    return (this.#clients[0] as WorkerClient).ask(request, transfer, signal);
  }

  /** Ends all workers and releases the memory; pending requests reject with `error`. */
  end(error: VGGNetError): void {
    this.#close(error);
    this.#memory = undefined;
    this.#terminate();
    this.#ended(false);
  }

  /**
   * After a crash: resolves to true when no worker touches the memory any more. A worker that computes first reaches its
   * next wait; one that takes too long is terminated. False if even then it is not known to have ended.
   */
  stopped(): Promise<boolean> {
    this.#stopped ??= this.#stop();
    return this.#stopped;
  }

  async #stop(): Promise<boolean> {
    const ended = new Promise<false>((resolve) => {
      this.#ended = resolve;
    });
    const gone = Promise.all(this.#clients.map((client) => client.gone)).then(() => true);
    // The timers also keep the process alive while a call waits here.
    const timer = setInterval(() => this.#wake(), WAKE_EVERY);
    const limit = setTimeout(() => this.#terminate(), STOP_TIMEOUT);
    const lastLimit = setTimeout(() => this.#ended(false), STOP_TIMEOUT + END_TIMEOUT);
    try {
      return await Promise.race([gone, ended]);
    } finally {
      clearInterval(timer);
      clearTimeout(limit);
      clearTimeout(lastLimit);
      this.#terminate();
    }
  }

  #terminate(): void {
    for (const client of this.#clients) client.terminate();
  }

  #spawn(): WorkerClient {
    if (this.#error) throw this.#error;
    let client: WorkerClient;
    try {
      client = new WorkerClient((why, ended) => this.#crash(why, ended));
    } catch (error) {
      if (error instanceof VGGNetError) throw error;
      throw new VGGNetError('WORKER_CRASHED', `A worker could not be started: ${String(error)}`, { cause: error });
    }
    this.#clients.push(client);
    return client;
  }

  #crash(why: string, ended: boolean): void {
    // An engine without helpers survives a trap: its memory is intact, and no thread waits in it.
    if (!this.#error && (ended || this.#source.config.threads > 1)) {
      this.#close(new VGGNetError('WORKER_CRASHED', this.#describe(why)));
    }
  }

  #close(error: VGGNetError): void {
    if (this.#error) return;
    this.#error = error;
    this.#failed(error);
    // First, so that no worker is left waiting after it was asked to leave.
    this.#wake();
    for (const client of this.#clients) client.close(error);
  }

  /** Tells the threads to give up, and wakes those that sleep (assembly/threads.ts). */
  #wake(): void {
    if (!this.#memory) return;
    const { memory, control, bytes } = this.#memory;
    const words = new Int32Array(memory.buffer, control, bytes / 4);
    Atomics.store(words, 0, 1);
    for (let word = 0; word < words.length; word++) Atomics.notify(words, word);
  }
}
