/**
 * Runs asynchronous tasks one after another, in the order in which they were added. A task starts when all tasks before
 * it have settled; a task that fails rejects for its own caller only, and the next one runs all the same.
 *
 * Wherever calls have to be serialized, use this class instead of a chain of promises.
 */
export class SerialQueue {
  /** Settles, and never rejects, when all tasks so far are done. */
  #idle: Promise<unknown> = Promise.resolve();

  /** @returns what the task returns, or rejects with what it throws */
  run<T>(task: () => T | PromiseLike<T>): Promise<T> {
    const result = this.#idle.then(task);
    this.#idle = result.catch(() => undefined);
    return result;
  }
}
