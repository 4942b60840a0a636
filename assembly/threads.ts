/*
 * The threads that work together on one operation, and how they wait for each other. In a build without shared memory
 * there is one thread, and all of this is nothing.
 *
 * A thread that waits looks at a word for some ten microseconds, which covers the gap between two layers, and then
 * sleeps: an idle model burns no time, and no wait can miss its wake-up, since a sleeper says so before it looks for
 * the last time. If a thread is gone the others would wait for ever: then the team is given up.
 */

/** Not zero: the team is given up, since one of its threads is gone. Every wait that would sleep traps. */
const GIVEN_UP: usize = 0;
/** Threads that sleep or are about to. */
const SLEEPERS: usize = 4;
/** Counts operations; helpers wait for it to change. */
export const EPOCH: usize = 64;
/** The operation, and the address of its arguments. */
export const OPERATION: usize = 128;
export const ARGUMENTS: usize = 132;
/** Helpers that have finished their share of it. */
export const DONE: usize = 192;
/** Threads that have come to the barrier, and how often it has opened. */
const ARRIVED: usize = 256;
const GENERATION: usize = 320;
/** Bytes of the control block: words that several threads write lie in cache lines of their own. */
export const CONTROL: i32 = 384;

/** Looks at a word before a thread goes to sleep. */
const SPINS: i32 = 40_000;

/**
 * Atomics.wait of the host. Not `memory.atomic.wait32`, which in V8 11 (Node 20) can sleep at address 0 for ever while
 * the code is not optimised yet.
 */
// @ts-ignore: decorator
@external("env", "sleep")
declare function sleep(address: usize, value: i32): void;

let control: usize = 0;
let threads: i32 = 1;

/** Says which control block this thread uses, and how many threads there are. */
export function join(block: usize, count: i32): void {
  control = block;
  threads = count;
}

/** Waits until all threads have come here. */
export function barrier(): void {
  if (!ASC_FEATURE_THREADS) return;
  if (threads == 1) return;
  const generation = atomic.load<i32>(control, GENERATION);
  if (atomic.add<i32>(control, 1, ARRIVED) == threads - 1) {
    atomic.store<i32>(control, 0, ARRIVED);
    atomic.add<i32>(control, 1, GENERATION);
    wake(GENERATION);
  } else {
    waitUntilChanged(GENERATION, generation);
  }
}

/** Waits until a word of the control block is no longer `value`. */
export function waitUntilChanged(word: usize, value: i32): void {
  if (!ASC_FEATURE_THREADS) return;
  for (let spin = 0; spin < SPINS; spin++) {
    if (atomic.load<i32>(control + word) != value) return;
  }
  atomic.add<i32>(control, 1, SLEEPERS);
  while (atomic.load<i32>(control + word) == value) {
    // Looked at again after each wake-up: who gives the team up wakes its sleepers until all are gone.
    if (atomic.load<i32>(control, GIVEN_UP)) unreachable();
    sleep(control + word, value);
  }
  atomic.sub<i32>(control, 1, SLEEPERS);
}

/** Wakes the threads that sleep on a word of the control block, after it was changed. */
export function wake(word: usize): void {
  if (!ASC_FEATURE_THREADS) return;
  if (atomic.load<i32>(control, SLEEPERS) > 0) atomic.notify(control + word, -1);
}

/** Where part `part` of `parts` of `total` things begins, in steps of `step`. */
// @ts-ignore: decorator
@inline
export function partition(total: i32, step: i32, part: i32, parts: i32): i32 {
  const steps = (total + step - 1) / step;
  return min(total, ((steps * part) / parts) * step);
}
