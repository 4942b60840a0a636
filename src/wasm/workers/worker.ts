/*
 * The script of a worker: an engine, or a helper of one, driven by messages. It is the only file with a side effect on
 * import.
 */
import { VGGNetError } from '../../errors.js';
import { Engine } from '../engine/engine.js';
import { instantiateKernels } from '../engine/instance.js';
import { EngineQueue, engineError } from '../engine/queue.js';
import { listen } from './port.js';
import { type FromWorker, NO_REQUEST, type Port, type Request, type Result, type ToWorker } from './protocol.js';

let engine: Engine | undefined;
let queue: EngineQueue | undefined;
const runs = new Map<number, AbortController>();
/** Requests that were not replied to yet. */
const underWay = new Set<Promise<Result>>();
let left = false;

function started<T>(value: T | undefined): T {
  if (value === undefined) throw new VGGNetError('WORKER_CRASHED', "The worker got a request before 'create'");
  return value;
}

async function handle(id: number, request: Request, onFail: (error: unknown) => void): Promise<Result> {
  switch (request.type) {
    case 'create':
      engine = await Engine.create(request.module, request.config);
      return request.config.threads > 1 ? engine.sharedMemory : undefined;
    case 'attach':
      engine = await Engine.create(request.module, request.config, request.shared.memory);
      queue = new EngineQueue(engine);
      return;
    case 'help':
      await help(request, onFail);
      return;
    case 'write':
      started(engine).writeParameter(request.chunk);
      return request.chunk.data;
    case 'finish':
      started(engine).finishParameters();
      queue = new EngineQueue(started(engine));
      return;
    case 'read':
      return await started(queue).readParameter(request.name);
    case 'run':
    case 'profile': {
      const controller = new AbortController();
      runs.set(id, controller);
      try {
        const options = { ...request.options, signal: controller.signal };
        if (request.type === 'profile') return await started(queue).profile(request, request.plan, options);
        return await started(queue).run(request, request.plan, options);
      } finally {
        runs.delete(id);
      }
    }
    case 'leave':
      left = true;
      queue?.dispose();
      await Promise.allSettled(underWay);
      engine = undefined;
  }
}

async function help(
  { module, shared, thread, threads }: Request & { type: 'help' },
  onFail: (error: unknown) => void,
): Promise<void> {
  const kernels = await instantiateKernels(module, shared.memory);
  // After the reply: the call only ends by a trap, when the threads are told to give up or a kernel fails.
  setTimeout(() => {
    if (left) return;
    try {
      kernels.helper(shared.control, thread, threads);
    } catch (error) {
      const givenUp = Atomics.load(new Int32Array(shared.memory.buffer), shared.control / 4) !== 0;
      if (!givenUp) onFail(error);
    }
  }, 0);
}

/** The buffers of a result, to be transferred instead of copied. */
function buffersOf(result: Result): ArrayBuffer[] {
  const parts = Array.isArray(result) ? result.map((part) => ('data' in part ? part.data : undefined)) : [result];
  return [...new Set(parts.flatMap((part) => (part instanceof Float32Array ? [part.buffer as ArrayBuffer] : [])))];
}

function answers(port: Port): (message: ToWorker) => Promise<void> {
  const reply = (message: FromWorker, transfer: Transferable[] = []): void => port.postMessage(message, transfer);
  const fail = (id: number, thrown: unknown): void => {
    const { code, message, cause, stack } = engineError(thrown);
    reply({ id, error: { code, message, stack: (cause instanceof Error ? cause.stack : undefined) ?? stack } });
  };
  return async (message) => {
    const { id } = message;
    if ('abort' in message) {
      runs.get(id)?.abort();
      return;
    }
    const { request } = message;
    const work = handle(id, request, (error) => fail(NO_REQUEST, error));
    if (request.type !== 'leave') underWay.add(work);
    try {
      const result = await work;
      reply({ id, result }, buffersOf(result));
    } catch (error) {
      fail(id, error);
    } finally {
      underWay.delete(work);
    }
  };
}

function answerOn(port: Port): void {
  listen(port, answers(port));
}

// Node: messages come through a port, which is the first message. Elsewhere: through the global scope.
const parent = globalThis.process?.getBuiltinModule?.('node:worker_threads')?.parentPort;
if (parent) parent.once('message', answerOn);
else answerOn(globalThis as unknown as Port);
