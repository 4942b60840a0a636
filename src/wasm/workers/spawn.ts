import { messageOf, VGGNetError } from '../../errors.js';
import { listen } from './port.js';
import type { FromWorker, ToWorker } from './protocol.js';

/** A worker of any runtime. */
export interface WorkerHandle {
  post(message: ToWorker, transfer: Transferable[]): void;
  /** From now on the worker keeps the process alive. */
  busy(): void;
  /** From now on it does not. */
  idle(): void;
  terminate(): void;
}

export interface SpawnOptions {
  readonly onMessage: (message: FromWorker) => void;
  /**
   * The worker failed to start, threw, or exited. `gone` is true once it is known to have stopped, which not every
   * runtime reports.
   */
  readonly onEnd: (why: string, gone: boolean) => void;
}

export function nodeWorkers(): typeof import('node:worker_threads') | undefined {
  return globalThis.process?.getBuiltinModule?.('node:worker_threads');
}

export function spawnNodeWorker(script: URL, { onMessage, onEnd }: SpawnOptions): WorkerHandle {
  const threads = nodeWorkers();
  if (!threads) throw new VGGNetError('BACKEND_UNAVAILABLE', 'This runtime has no workers; pass inline: true');
  // The program's own flags would break it: '--input-type=module' ends it, '--import' loads it twice.
  const worker = new threads.Worker(script, { name: 'vggnet', execArgv: [] });
  worker.on('error', (error) => onEnd(messageOf(error), false));
  worker.on('exit', (code) => onEnd(`exit code ${code}`, true));
  // A separate port: Deno's versions of Node's worker events inspect every value of an array.
  const { port1, port2 } = new threads.MessageChannel();
  listen(port1, onMessage);
  worker.postMessage(port2, [port2]);
  return {
    post: (message, transfer) =>
      port1.postMessage(message, transfer as import('node:worker_threads').TransferListItem[]),
    busy() {
      worker.ref();
      port1.ref();
    },
    idle() {
      worker.unref();
      port1.unref();
    },
    terminate() {
      port1.close();
      void worker.terminate();
    },
  };
}

export function spawnWebWorker(worker: Worker, { onMessage, onEnd }: SpawnOptions): WorkerHandle {
  // Deno and Bun can unref a worker too; a browser's page does not wait for one.
  const { ref, unref } = worker as Worker & { ref?: () => void; unref?: () => void };
  // A worker that fails before its first message never started to listen, so it has stopped.
  let started = false;
  worker.onmessage = (event: MessageEvent<FromWorker>) => {
    started = true;
    onMessage(event.data);
  };
  worker.onmessageerror = () => onEnd('a message could not be read', false);
  worker.onerror = (event) => {
    event.preventDefault();
    onEnd(event.message || 'its script could not be loaded', !started);
  };
  // Only Bun fires it.
  worker.addEventListener('close', () => onEnd('it was closed', true));
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    busy: () => ref?.call(worker),
    idle: () => unref?.call(worker),
    terminate: () => worker.terminate(),
  };
}

/**
 * Starts a web worker from the text of its script.
 * @throws VGGNetError `BACKEND_UNAVAILABLE` if the runtime refuses
 */
export function startFromText(script: string): Worker {
  const url = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
  try {
    const worker = new Worker(url, { type: 'module', name: 'vggnet' });
    // Once it has started: before that it may not have fetched its script.
    for (const event of ['message', 'error']) {
      worker.addEventListener(event, () => URL.revokeObjectURL(url), { once: true });
    }
    return worker;
  } catch (error) {
    URL.revokeObjectURL(url);
    throw workerRefused(error);
  }
}

export function workerRefused(cause: unknown): VGGNetError {
  const why = messageOf(cause);
  const message = `A worker could not be started (inline: true runs without one): ${why}`;
  return new VGGNetError('BACKEND_UNAVAILABLE', message, { cause });
}

/** True where `spawnWorker` can start one. */
export function hasWorkers(): boolean {
  return typeof Worker === 'function' || nodeWorkers() !== undefined;
}
