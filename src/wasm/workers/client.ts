import { VGGNetError } from '../../errors.js';
import { spawnWorker, type WorkerHandle } from '../../platform/assets.js';
import type { FromWorker, Request, Result } from './protocol.js';

interface Pending {
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/** Called when a worker ended, or when its engine failed but the worker lives on. May be called more than once. */
export type OnCrash = (why: string, ended: boolean) => void;

/** One worker and its pending requests. While there are any, the worker keeps the process alive. */
export class WorkerClient {
  readonly #worker: WorkerHandle;
  readonly #onCrash: OnCrash;
  readonly #pending = new Map<number, Pending>();
  #nextId = 0;
  /** Set once it takes no more requests. */
  #closed: VGGNetError | undefined;
  #leaveId: number | undefined;
  #left: () => void = () => {};
  /** Resolves when the worker has stopped running code. */
  readonly #gone: Promise<void> = new Promise((resolve) => {
    this.#left = resolve;
  });

  /** Starts the worker. */
  constructor(onCrash: OnCrash) {
    this.#onCrash = onCrash;
    this.#worker = spawnWorker({
      onMessage: (message) => this.#receive(message),
      onEnd: (why, gone) => {
        if (gone) this.#left();
        onCrash(why, true);
      },
    });
    this.#worker.idle();
  }

  /** Sends a request. If the signal fires before the answer, the worker is asked to abort it. */
  ask(request: Request, transfer: Transferable[] = [], signal?: AbortSignal): Promise<Result> {
    if (this.#closed) return Promise.reject(this.#closed);
    const id = this.#nextId++;
    const abort = (): void => this.#worker.post({ id, abort: true }, []);
    const answer = new Promise<Result>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject });
      this.#worker.busy();
      this.#worker.post({ id, request }, transfer);
    });
    if (!signal) return answer;
    signal.addEventListener('abort', abort, { once: true });
    return answer.finally(() => signal.removeEventListener('abort', abort));
  }

  /** Rejects all pending and future requests, and asks the worker to stop. */
  close(error: VGGNetError): void {
    if (this.#closed) return;
    this.#closed = error;
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
    this.#worker.idle();
    this.#leaveId = this.#nextId++;
    this.#worker.post({ id: this.#leaveId, request: { type: 'leave' } }, []);
  }

  /** After `close`: resolves when the worker has stopped, which may never happen. */
  get gone(): Promise<void> {
    return this.#gone;
  }

  terminate(): void {
    this.#worker.terminate();
  }

  #receive(message: FromWorker): void {
    if (message.id === this.#leaveId) this.#left();
    const pending = this.#pending.get(message.id);
    this.#pending.delete(message.id);
    if (this.#pending.size === 0) this.#worker.idle();
    if ('result' in message) {
      pending?.resolve(message.result);
      return;
    }
    const { code, message: text, stack } = message.error;
    pending?.reject(new VGGNetError(code, text, { cause: stack }));
    if (code === 'WORKER_CRASHED') this.#onCrash(text, false);
  }
}
