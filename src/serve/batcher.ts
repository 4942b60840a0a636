import { abortable } from '../abort.js';
import { VGGNetError } from '../errors.js';
import { Tensor } from '../tensor.js';

export interface BatcherOptions {
  /** Images in one forward at most. */
  readonly maxBatch: number;
  /** Images times their height and width in one forward at most; an image that has more runs alone. */
  readonly maxPixels?: number | undefined;
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

/** A request whose images have not all been computed. */
interface Job {
  readonly input: Tensor;
  readonly outputs: readonly string[];
  /** Equal for requests that may run together. */
  readonly key: string;
  readonly signal: AbortSignal;
  readonly since: number;
  /** Images of it in one forward at most. */
  readonly pieceSize: number;
  /** What an image of it costs. */
  readonly imageCost: number;
  /** Images that were computed, or are being. */
  next: number;
  /** The virtual time at which its next piece may start. */
  start: number;
  /** Outputs with the rows that are there so far. */
  results: Tensor[] | undefined;
  readonly resolve: (outputs: Tensor[]) => void;
  readonly reject: (error: unknown) => void;
}

/** Consecutive images of a job. */
interface Piece {
  readonly job: Job;
  readonly from: number;
  readonly to: number;
}

/**
 * Gathers requests into batches, one forward at a time: those that wait together, with images of one size and the same
 * outputs, run together. A request of many images is cut into pieces, which take turns by weighted fair queueing (Demers,
 * Keshav and Shenker, 1989): the one goes first that would end first if all were computed at once, each at the same share
 * of speed. So a small request waits for the forward that runs, and not for large ones, and none waits for ever. Who stops waiting leaves the queue; a forward that nobody waits for is aborted.
 */
export class Batcher {
  readonly #run: RunBatch;
  readonly #options: BatcherOptions;
  #queue: Job[] = [];
  #running = false;
  /** How far each would be that waited all the time, if all were computed at once, each at the same share of speed. */
  #virtualTime = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(run: RunBatch, options: BatcherOptions) {
    this.#run = run;
    this.#options = options;
  }

  /** Requests of which images wait. */
  get waiting(): number {
    return this.#queue.length;
  }

  /**
   * @param input (N, C, H, W), which fits the network
   * @param outputs names that are in one order for all who ask for the same
   * @returns the outputs, each with N rows
   * @throws QueueFullError; VGGNetError `ABORTED`, and what the forward throws
   */
  submit(input: Tensor, outputs: readonly string[], signal: AbortSignal): Promise<Tensor[]> {
    if (this.#queue.length >= this.#options.maxQueue) {
      return Promise.reject(new QueueFullError(`${this.#queue.length} requests wait already`));
    }
    const [, ...size] = input.shape;
    const [, height = 1, width = 1] = size;
    const { maxBatch, maxPixels = Infinity } = this.#options;
    const pieceSize = Math.max(1, Math.min(maxBatch, Math.floor(maxPixels / (height * width))));
    const done = new Promise<Tensor[]>((resolve, reject) => {
      this.#queue.push({
        input,
        outputs,
        key: JSON.stringify([size, outputs]),
        signal,
        since: performance.now(),
        pieceSize,
        imageCost: height * width,
        next: 0,
        start: this.#virtualTime,
        results: undefined,
        resolve,
        reject,
      });
    });
    signal.addEventListener('abort', this.#drop, { once: true });
    this.#next();
    return abortable(done, signal).finally(() => signal.removeEventListener('abort', this.#drop));
  }

  /** Lets go of those that no longer wait; `abortable` has told them so. */
  readonly #drop = (): void => {
    this.#queue = this.#queue.filter(({ signal }) => !signal.aborted);
  };

  /** Starts the next batch if it is full or has waited long enough, and else comes back then. */
  #next(): void {
    clearTimeout(this.#timer);
    if (this.#running || this.#queue.length === 0) return;
    this.#queue.sort((a, b) => endOf(a) - endOf(b));
    const first = this.#queue[0] as Job;
    const batch = this.#batchOf(first);
    // What waited in line has waited long enough.
    const wait = first.next > 0 ? 0 : first.since + this.#options.maxDelay - performance.now();
    if (imagesOf(batch) < first.pieceSize && wait > 0) {
      this.#timer = setTimeout(() => this.#next(), wait);
      return;
    }
    const jobs = this.#queue.length;
    for (const { job, from, to } of batch) {
      const cost = (to - from) * job.imageCost;
      job.next = to;
      job.start += cost;
      this.#virtualTime += cost / jobs;
    }
    this.#queue = this.#queue.filter(({ next, input }) => next < imageCount(input));
    this.#running = true;
    void this.#forward(batch).finally(() => {
      this.#running = false;
      this.#next();
    });
  }

  /**
   * A piece of the first, and what is left of small requests that fits beside it, in the order of the queue. Large ones
   * fill no batch of others, which would take longer for it.
   */
  #batchOf(first: Job): Piece[] {
    const batch: Piece[] = [];
    let room = first.pieceSize;
    for (const job of this.#queue) {
      if (room === 0) break;
      const left = imageCount(job.input) - job.next;
      if (job.key !== first.key || (job !== first && left > room)) continue;
      const to = job.next + Math.min(room, left);
      batch.push({ job, from: job.next, to });
      room -= to - job.next;
    }
    return batch;
  }

  async #forward(batch: readonly Piece[]): Promise<void> {
    const controller = new AbortController();
    const stop = (): void => {
      if (batch.every(({ job }) => job.signal.aborted)) controller.abort();
    };
    for (const { job } of batch) job.signal.addEventListener('abort', stop);
    try {
      this.#options.onBatch?.(imagesOf(batch));
      const { outputs } = (batch[0] as Piece).job;
      const results = await this.#run(joined(batch), outputs, controller.signal);
      let row = 0;
      for (const piece of batch) {
        const from = row;
        row += piece.to - piece.from;
        deliver(piece, results, from);
      }
    } catch (error) {
      for (const { job } of batch) {
        this.#queue = this.#queue.filter((other) => other !== job);
        job.reject(error);
      }
    } finally {
      for (const { job } of batch) job.signal.removeEventListener('abort', stop);
    }
  }
}

/** The virtual time at which a job's next piece would end. */
function endOf({ start, next, input, pieceSize, imageCost }: Job): number {
  return start + Math.min(pieceSize, imageCount(input) - next) * imageCost;
}

function imageCount({ shape }: Tensor): number {
  return shape[0] as number;
}

function imagesOf(batch: readonly Piece[]): number {
  return batch.reduce((sum, { from, to }) => sum + to - from, 0);
}

/** Images of one size, one after another; of a single piece without a copy. */
function joined(batch: readonly Piece[]): Tensor {
  const [first] = batch;
  if (!first) throw new VGGNetError('INVALID_ARGUMENT', 'A batch needs at least one image');
  const shape = [imagesOf(batch), ...first.job.input.shape.slice(1)];
  const parts = batch.map(({ job: { input }, from, to }) => {
    const length = input.data.length / imageCount(input);
    return input.data.subarray(from * length, to * length);
  });
  if (parts.length === 1) return new Tensor(parts[0] as Float32Array, shape);
  const data = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part, at);
    at += part.length;
  }
  return new Tensor(data, shape);
}

/** Puts a piece's rows, which start at `row` of the forward's, into its job's outputs, and gives them out with the last. */
function deliver({ job, from, to }: Piece, outputs: readonly Tensor[], row: number): void {
  const total = imageCount(job.input);
  const count = to - from;
  if (count === total && imageCount(outputs[0] as Tensor) === total) {
    job.resolve([...outputs]);
    return;
  }
  job.results ??= outputs.map(({ data, shape: [rows = 1, ...size] }) => {
    return new Tensor(new Float32Array((data.length / rows) * total), [total, ...size]);
  });
  for (const [i, { data, shape }] of outputs.entries()) {
    const length = data.length / (shape[0] as number);
    job.results[i]?.data.set(data.subarray(row * length, (row + count) * length), from * length);
  }
  if (to === total) job.resolve(job.results);
}
