import { QueueFullError } from './batcher.js';
import { bodiesFull, declaredLength } from './body.js';
import { Budget, type Lease } from './budget.js';
import { LATER, RequestError } from './failure.js';
import type { Incoming } from './incoming.js';
import type { Settings } from './options.js';

/** What the requests of a server share. */
export class Limits {
  /** POST requests, from the head on. */
  readonly requests: Budget;
  /** Bytes of bodies. */
  readonly bodies: Budget;
  /** Images and tensors, from when their body is there until they are answered. */
  readonly slots: Budget;
  /** Bytes of outputs that are not small. */
  readonly outputs: Budget;
  readonly #settings: Settings;
  /** One for all whom it concerns: to trace the stack of an error takes longer than to answer. */
  readonly #full: QueueFullError;
  readonly #busy: RequestError;

  constructor(settings: Settings) {
    this.#settings = settings;
    this.requests = new Budget(settings.maxRequests);
    this.bodies = new Budget(settings.maxTotalBodyBytes);
    this.slots = new Budget(settings.maxQueue + settings.maxBatch);
    this.outputs = new Budget(settings.maxTotalOutputBytes);
    this.#full = new QueueFullError(`${this.slots.limit} images wait already`);
    this.#busy = new RequestError(503, 'OVERLOADED', `${settings.maxRequests} requests are in progress already`, LATER);
  }

  /**
   * Lets a request in by its head, before anything of its body is read, so that an overload costs little more than its
   * answers.
   * @returns the share of all bodies that it declares; `release` gives back its place too
   * @throws RequestError 413, 503; QueueFullError
   */
  admit(incoming: Incoming): Lease {
    if (this.slots.isFull) throw this.#full;
    const length = declaredLength(incoming, this.#settings) ?? 0;
    const place = this.requests.take(1);
    if (!place) throw this.#busy;
    const share = this.bodies.take(length);
    if (!share) {
      place.release();
      throw bodiesFull();
    }
    return {
      growTo: share.growTo,
      release() {
        share.release();
        place.release();
      },
    };
  }

  /**
   * Places for images or tensors that wait.
   * @throws QueueFullError
   */
  wait(count: number): Lease {
    const lease = this.slots.take(count);
    if (!lease) throw this.#full;
    return lease;
  }

  /**
   * Memory for the outputs of an answer.
   * @param bytes what is written at most, as JSON or binary
   * @param held what is held in memory for it
   * @throws RequestError 413 if it is more than an answer may have, 503 if answers that have not been read hold it all
   */
  answer(bytes: number, held: number): Lease {
    const { maxOutputBytes } = this.#settings;
    if (bytes > maxOutputBytes) {
      throw new RequestError(
        413,
        'OUTPUT_TOO_LARGE',
        `The outputs asked for may have at most ${maxOutputBytes} bytes, and these have up to ${bytes}; as binary_data they are smaller than as JSON`,
      );
    }
    const lease = this.outputs.take(held);
    if (lease) return lease;
    throw new RequestError(
      503,
      'OVERLOADED',
      'Answers that have not been read hold all the memory that they may',
      LATER,
    );
  }
}
