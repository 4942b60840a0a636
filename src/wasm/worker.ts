/*
 * The script of a worker: one engine, driven by messages. It is the only file with an effect on import.
 */
import { VGGNetError } from '../errors.js';
import { Tensor } from '../tensor.js';
import { Engine } from './engine.js';
import { InlineExecutable } from './inline.js';
import { instantiateKernels } from './kernels.js';
import type { FromWorker, Port, Request, Result, ToWorker } from './protocol.js';

let engine: Engine | undefined;
let executable: InlineExecutable | undefined;
const runs = new Map<number, AbortController>();

function started<T>(value: T | undefined): T {
  if (value === undefined) throw new VGGNetError('WORKER_CRASHED', "The worker got a request before 'create'");
  return value;
}

async function handle(id: number, request: Request): Promise<Result> {
  switch (request.type) {
    case 'create':
      engine = await Engine.create(request.module, request.program, request.options);
      return request.options.threads > 1 ? engine.team : undefined;
    case 'help': {
      const { module, team, thread, threads } = request;
      const kernels = await instantiateKernels(module, team.memory);
      // After the answer: this call comes back when the worker is ended.
      setTimeout(() => kernels.helper(team.control, thread, threads), 0);
      return;
    }
    case 'write':
      started(engine).writeParameter(request.chunk);
      return request.chunk.data;
    case 'finish':
      started(engine).finishParameters();
      executable = new InlineExecutable(started(engine));
      return;
    case 'read':
      return await started(executable).readParameter(request.name);
    case 'run':
    case 'profile': {
      const controller = new AbortController();
      runs.set(id, controller);
      try {
        const input = new Tensor(request.data, request.shape);
        const options = { ...request.options, signal: controller.signal };
        if (request.type === 'profile') return await started(executable).profile(input, options);
        const outputs = await started(executable).run(input, options);
        return outputs.map(({ data, shape }) => ({ data, shape }));
      } finally {
        runs.delete(id);
      }
    }
  }
}

/** The buffers of a result, which go with it and are not copied. */
function buffersOf(result: Result): ArrayBuffer[] {
  const parts = Array.isArray(result) ? result.map((part) => ('data' in part ? part.data : undefined)) : [result];
  return [...new Set(parts.flatMap((part) => (part instanceof Float32Array ? [part.buffer as ArrayBuffer] : [])))];
}

function listen(port: Port): (message: ToWorker) => Promise<void> {
  const reply = (message: FromWorker, transfer: Transferable[] = []): void => port.postMessage(message, transfer);
  return async (message) => {
    const { id } = message;
    if ('abort' in message) {
      runs.get(id)?.abort();
      return;
    }
    try {
      const result = await handle(id, message.request);
      reply({ id, result }, buffersOf(result));
    } catch (error) {
      const { message, stack } = error instanceof Error ? error : new Error(String(error));
      reply({ id, error: { code: error instanceof VGGNetError ? error.code : undefined, message, stack } });
    }
  };
}

// In Node a worker talks through worker_threads, elsewhere through its global scope.
const parent = globalThis.process?.getBuiltinModule?.('node:worker_threads')?.parentPort;
if (parent) {
  parent.on('message', listen(parent as unknown as Port));
} else {
  const scope = globalThis as unknown as Port & { onmessage: (event: MessageEvent<ToWorker>) => void };
  const take = listen(scope);
  scope.onmessage = (event) => void take(event.data);
}
