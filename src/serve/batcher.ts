import { abortable } from '../abort.js';
import { VGGNetError } from '../errors.js';
import { Tensor } from '../tensor.js';

export interface BatcherOptions {
  /** Images in one forward at most; a single request with more runs alone. */
  readonly maxBatch: number;
  /** How long the first request of a batch waits for others, in ms, while the model is idle. */
  readonly maxDelay: number;
  /** Requests that may wait. */
  readonly maxQueue: number;
  /** Told of each forward, with its number of images. */
  readonly onBatch?: ((images: number) => void) | undefined;
}

/** Runs a batch (N, C, H, W); gives outputs with N rows, in the order of the names. */
export type RunBatch = (input: Tensor, outputs: readonly string[], signal: AbortSignal) => Promise<Tensor[]>;

/** The queue is full: the caller is to come back later. */
export class QueueFullError extends Error {
  override readonly name: string = 'QueueFullError';
}

interface Waiting {
  readonly input: Tensor;
  readonly outputs: readonly string[];
  /** Equal for requests that may run together. */
  readonly key: string;
  readonly signal: AbortSignal;
  readonly since: number;
  readonly resolve: (outputs: Tensor[]) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Gathers requests into batches, one forward at a time: those that wait together, with images of one size and the same
 * outputs, run together. Who stops waiting leaves the queue; a forward that nobody waits for any more is aborted.
 */
export class Batcher {
  readonly #run: RunBatch;
  readonly #options: BatcherOptions;
  #queue: Waiting[] = [];
  #running = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(run: RunBatch, options: BatcherOptions) {
    this.#run = run;
    this.#options = options;
  }

  /** Requests that wait for their forward to begin. */
  get waiting(): number {
    return this.#queue.length;
  }

  /**
   * @param input (N, C, H, W)
   * @returns the outputs, each with N rows
   * @throws QueueFullError; VGGNetError `ABORTED`, and what the forward throws
   */
  submit(input: Tensor, outputs: readonly string[], signal: AbortSignal): Promise<Tensor[]> {
    if (this.#queue.length >= this.#options.maxQueue) {
      return Promise.reject(new QueueFullError(`${this.#queue.length} requests wait already`));
    }
    const key = `${input.shape.slice(1).join('x')} ${outputs.join()}`;
    const done = new Promise<Tensor[]>((resolve, reject) => {
      this.#queue.push({ input, outputs, key, signal, since: performance.now(), resolve, reject });
    });
    signal.addEventListener('abort', this.#drop, { once: true });
    this.#next();
    return abortable(done, signal).finally(() => signal.removeEventListener('abort', this.#drop));
  }

  /** Lets go of those that no longer wait; `abortable` has told them so. */
  readonly #drop = (): void => {
    this.#queue = this.#queue.filter(({ signal }) => !signal.aborted);
  };

  /** Starts the first request's batch if it is full or has waited long enough, and else comes back then. */
  #next(): void {
    clearTimeout(this.#timer);
    const first = this.#queue[0];
    if (this.#running || !first) return;
    const batch = this.#batchOf(first);
    const wait = first.since + this.#options.maxDelay - performance.now();
    if (imagesOf(batch) < this.#options.maxBatch && wait > 0) {
      this.#timer = setTimeout(() => this.#next(), wait);
      return;
    }
    const taken = new Set(batch);
    this.#queue = this.#queue.filter((request) => !taken.has(request));
    this.#running = true;
    void this.#forward(batch).finally(() => {
      this.#running = false;
      this.#next();
    });
  }

  #batchOf(first: Waiting): Waiting[] {
    const batch = [first];
    let images = first.input.shape[0] as number;
    for (const request of this.#queue) {
      const more = request.input.shape[0] as number;
      if (request === first || request.key !== first.key || images + more > this.#options.maxBatch) continue;
      batch.push(request);
      images += more;
    }
    return batch;
  }

  async #forward(batch: readonly Waiting[]): Promise<void> {
    const controller = new AbortController();
    const stop = (): void => {
      if (batch.every(({ signal }) => signal.aborted)) controller.abort();
    };
    for (const { signal } of batch) signal.addEventListener('abort', stop);
    try {
      this.#options.onBatch?.(imagesOf(batch));
      const { outputs } = batch[0] as Waiting;
      const results = await this.#run(joined(batch.map(({ input }) => input)), outputs, controller.signal);
      let row = 0;
      for (const { input, resolve } of batch) {
        const from = row;
        row += input.shape[0] as number;
        resolve(results.map((result) => rows(result, from, row)));
      }
    } catch (error) {
      for (const { reject } of batch) reject(error);
    } finally {
      for (const { signal } of batch) signal.removeEventListener('abort', stop);
    }
  }
}

function imagesOf(batch: readonly Waiting[]): number {
  return batch.reduce((sum, { input }) => sum + (input.shape[0] as number), 0);
}

/** Inputs of one size, one after another. */
function joined(inputs: readonly Tensor[]): Tensor {
  const [first] = inputs;
  if (!first) throw new VGGNetError('INVALID_ARGUMENT', 'A batch needs at least one image');
  if (inputs.length === 1) return first;
  const data = new Float32Array(inputs.reduce((sum, input) => sum + input.data.length, 0));
  let at = 0;
  for (const input of inputs) {
    data.set(input.data, at);
    at += input.data.length;
  }
  const images = inputs.reduce((sum, { shape }) => sum + (shape[0] as number), 0);
  return new Tensor(data, [images, ...first.shape.slice(1)]);
}

/** Rows of a tensor, as a copy of their own. */
function rows({ data, shape }: Tensor, from: number, to: number): Tensor {
  const length = data.length / (shape[0] as number);
  return new Tensor(data.slice(from * length, to * length), [to - from, ...shape.slice(1)]);
}
