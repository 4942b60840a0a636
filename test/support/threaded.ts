import type { Backend, Executable, ParameterStream } from '../../src/backend.js';
import { VGGNetError } from '../../src/errors.js';
import { Tensor } from '../../src/tensor.js';
import { compileKernels, kernelFile } from '../../src/wasm/build.js';
import type { SharedMemory } from '../../src/wasm/engine/engine.js';
import type { KernelBuild } from '../../src/wasm/kernels.js';
import { PlanCache } from '../../src/wasm/plan/plan-cache.js';
import { WorkerClient } from '../../src/wasm/workers/client.js';
import type { Request, Result } from '../../src/wasm/workers/protocol.js';

/*
 * The wasm backend with threads, for tests that compile hundreds of programs. Workers and computation are those of a model,
 * but a program reuses the workers of an earlier one, since starting workers for each would take most of the time.
 */

export interface ThreadedOptions {
  readonly build: KernelBuild;
  readonly threads: number;
  readonly winograd?: boolean;
}

/**
 * Programs that a set of workers serves. Each leaves a memory, for which V8 reserves 10 GiB of addresses; a process gets
 * about a hundred. When one is refused, only the requesting worker collects garbage, not the threads that hold the others.
 * So workers end before there are many, and this thread collects garbage too.
 */
const MAX_USES = 35;
/** Milliseconds between two wake-ups, for helpers that went to sleep just after the last one. */
const WAKE_EVERY = 1;

/** Idle sets of workers by their size. */
const free = new Map<number, Workers[]>();

export function createThreadedBackend({ build, threads, winograd = true }: ThreadedOptions): Backend {
  return {
    device: { backend: 'wasm', build, threads, inline: false, reason: 'asked for by a test' },
    async compile(program, parameters) {
      const workers = free.get(threads)?.pop() ?? new Workers(threads);
      const plans = new PlanCache(program, { winograd, threads });
      await workers.load(await compileKernels(kernelFile(build, threads, program.layers)), plans, parameters);
      return executable(workers, plans);
    },
  };
}

function executable(workers: Workers, plans: PlanCache): Executable {
  const run = (type: 'run' | 'profile'): Executable['profile'] & Executable['run'] => {
    return async (input, { outputs, mode, seed, signal }) => {
      const { data, shape } = input;
      const options = { outputs, mode, seed };
      const request = { type, data: data.slice(), shape, plan: plans.plan(shape, options), options };
      const result = await workers.ask(request, signal);
      if (type === 'profile') return result as never;
      return (result as { data: Float32Array; shape: readonly number[] }[]).map(
        ({ data, shape }) => new Tensor(data, shape),
      ) as never;
    };
  };
  return {
    run: run('run'),
    profile: run('profile'),
    readParameter: async (name) => (await workers.ask({ type: 'read', name })) as Float32Array,
    dispose: () => workers.giveBack(),
  };
}

class Workers {
  readonly #clients: WorkerClient[] = [];
  #shared: SharedMemory | undefined;
  #uses = 0;

  constructor(threads: number) {
    const fail = (why: string): void => {
      for (const client of this.#clients)
        client.close(new VGGNetError('WORKER_CRASHED', `A worker of the tests: ${why}`));
    };
    for (let thread = 0; thread < threads; thread++) this.#clients.push(new WorkerClient(fail));
  }

  ask(request: Request, signal?: AbortSignal): Promise<Result> {
    return (this.#clients[0] as WorkerClient).ask(request, [], signal);
  }

  async load(module: WebAssembly.Module, { config }: PlanCache, parameters: ParameterStream) {
    const threads = this.#clients.length;
    const before = this.#shared;
    const shared = (await this.ask({ type: 'create', module, config })) as SharedMemory;
    this.#shared = shared;
    const timer = setInterval(() => giveUp(before), WAKE_EVERY);
    const helpers = this.#clients.slice(1);
    await Promise.all(helpers.map((client, i) => client.ask({ type: 'help', module, shared, thread: i + 1, threads })));
    clearInterval(timer);
    for await (const { name, offset, data } of parameters) {
      await this.ask({ type: 'write', chunk: { name, offset, data: data.slice() } });
    }
    await this.ask({ type: 'finish' });
  }

  giveBack(): void {
    giveUp(this.#shared);
    if (++this.#uses === MAX_USES) {
      for (const client of this.#clients) client.terminate();
      collectGarbage();
      return;
    }
    const threads = this.#clients.length;
    free.set(threads, [...(free.get(threads) ?? []), this]);
  }
}

function collectGarbage(): void {
  if (!globalThis.gc) throw new Error('Tests with threads need --expose-gc, which vitest.config.ts gives');
  globalThis.gc();
}

/** Ends the kernels' loop in helpers, as a model does after a crash. */
function giveUp(shared: SharedMemory | undefined): void {
  if (!shared) return;
  const words = new Int32Array(shared.memory.buffer, shared.control, shared.bytes / 4);
  Atomics.store(words, 0, 1);
  for (let word = 0; word < words.length; word++) Atomics.notify(words, word);
}
