import { throwIfAborted } from '../errors.js';
import { pause } from '../platform/event-loop.js';

/*
 * Long work on a thread that others wait for. It is written as a generator that yields after about a millisecond of
 * work, and whoever runs it chooses: at once, or in slices.
 */

/** Work with places where the thread can be given back. */
export type Steps<T> = Generator<void, T>;

/** Operations between two yields: about half a millisecond of multiply-adds. */
export const STEP: number = 2 ** 18;

/** How long the thread is kept at a time, in ms. */
const SLICE = 4;

/** Does the work at once. */
export function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

let sliceEnd = 0;
/** Work that waits for a slice, in order. */
const line: (() => void)[] = [];

/**
 * Does the work in slices of a few milliseconds, between which timers, messages and I/O have their turn.
 * All work in slices shares them, so that any number of callers keep the thread no longer than one.
 * @throws VGGNetError `ABORTED` within a slice of the signal
 */
export async function inSlices<T>(steps: Steps<T>, signal?: AbortSignal): Promise<T> {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
    if (performance.now() < sliceEnd) continue;
    await nextSlice();
    throwIfAborted(signal);
  }
}

/** Waits in line for a slice. */
function nextSlice(): Promise<void> {
  return new Promise((resolve) => {
    line.push(resolve);
    if (line.length === 1) void serveLine();
  });
}

/** One slice in each turn of the event loop, for as many of those in line as it has time for: small work shares it. */
async function serveLine(): Promise<void> {
  while (line.length > 0) {
    await pause();
    sliceEnd = performance.now() + SLICE;
    do {
      const next = line[0] as () => void;
      next();
      // The work goes on in a microtask that `next` has queued, until it ends or gets in line again.
      await undefined;
      line.shift();
    } while (line.length > 0 && performance.now() < sliceEnd);
  }
}
