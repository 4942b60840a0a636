import { VGGNetError } from '../errors.js';
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
  /** The worker failed to start, threw, or exited. */
  readonly onEnd: (why: string) => void;
}

/** True where `spawnWorker` can start one. */
export function hasWorkers(): boolean {
  return typeof Worker === 'function' || nodeWorkers() !== undefined;
}

function nodeWorkers(): typeof import('node:worker_threads') | undefined {
  return globalThis.process?.getBuiltinModule?.('node:worker_threads');
}

export function spawnNodeWorker(script: URL, { onMessage, onEnd }: SpawnOptions): WorkerHandle {
  const threads = nodeWorkers();
  if (!threads) throw new VGGNetError('BACKEND_UNAVAILABLE', 'This runtime has no workers; pass inline: true');
  // The program's own flags are not for it: '--input-type=module' would end it, '--import' load it twice.
  const worker = new threads.Worker(script, { name: 'vggnet', execArgv: [] });
  worker.on('message', onMessage);
  worker.on('error', (error) => onEnd(error instanceof Error ? error.message : String(error)));
  worker.on('exit', (code) => onEnd(`exit code ${code}`));
  return {
    post: (message, transfer) =>
      worker.postMessage(message, transfer as import('node:worker_threads').TransferListItem[]),
    busy: () => worker.ref(),
    idle: () => worker.unref(),
    terminate: () => void worker.terminate(),
  };
}

export function spawnWebWorker(worker: Worker, { onMessage, onEnd }: SpawnOptions): WorkerHandle {
  // Deno and Bun can let go of a worker too; a browser's page ends without asking.
  const { ref, unref } = worker as Worker & { ref?: () => void; unref?: () => void };
  worker.onmessage = (event: MessageEvent<FromWorker>) => onMessage(event.data);
  worker.onmessageerror = () => onEnd('a message could not be read');
  worker.onerror = (event) => {
    event.preventDefault();
    onEnd(event.message || 'its script could not be loaded');
  };
  return {
    post: (message, transfer) => worker.postMessage(message, transfer),
    busy: () => ref?.call(worker),
    idle: () => unref?.call(worker),
    terminate: () => worker.terminate(),
  };
}
