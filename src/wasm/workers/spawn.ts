import { messageOf, VGGNetError } from '../../errors.js';
import { listen } from './port.js';
import type { FromWorker, ToWorker } from './protocol.js';

/** A worker, whatever the runtime calls it. */
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
   * The worker failed to start, threw, or exited. `gone` says that it runs nothing any more, which not every runtime
   * tells.
   */
  readonly onEnd: (why: string, gone: boolean) => void;
}

export function nodeWorkers(): typeof import('node:worker_threads') | undefined {
  return globalThis.process?.getBuiltinModule?.('node:worker_threads');
}

export function spawnNodeWorker(script: URL, { onMessage, onEnd }: SpawnOptions): WorkerHandle {
  const threads = nodeWorkers();
  if (!threads) throw new VGGNetError('BACKEND_UNAVAILABLE', 'This runtime has no workers; pass inline: true');
  // The program's own flags are not for it: '--input-type=module' would end it, '--import' load it twice.
  const worker = new threads.Worker(script, { name: 'vggnet', execArgv: [] });
  worker.on('error', (error) => onEnd(messageOf(error), false));
  worker.on('exit', (code) => onEnd(`exit code ${code}`, true));
  // A port of its own: Deno's stand-ins for Node's events of workers look at every value of an array.
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
  // Deno and Bun can let go of a worker too; a browser's page ends without asking.
  const { ref, unref } = worker as Worker & { ref?: () => void; unref?: () => void };
  // One that fails before its first word never came to listen, and runs nothing.
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
  // Bun's.
  worker.addEventListener('close', () => onEnd('it was closed', true));
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    busy: () => ref?.call(worker),
    idle: () => unref?.call(worker),
    terminate: () => worker.terminate(),
  };
}

/**
 * A web worker whose script is a text.
 * @throws VGGNetError `BACKEND_UNAVAILABLE` if the runtime refuses
 */
export function startFromText(script: string): Worker {
  const url = URL.createObjectURL(new Blob([script], { type: 'text/javascript' }));
  try {
    const worker = new Worker(url, { type: 'module', name: 'vggnet' });
    // Not before it has started: it may not have fetched its script yet.
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
  const message = `A worker could not be started; pass inline: true to do without: ${why}`;
  return new VGGNetError('BACKEND_UNAVAILABLE', message, { cause });
}

/** True where `spawnWorker` can start one. */
export function hasWorkers(): boolean {
  return typeof Worker === 'function' || nodeWorkers() !== undefined;
}
