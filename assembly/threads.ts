/*
 * How the threads that share an operation wait for each other. A build without shared memory has one thread, and all of
 * this compiles to nothing.
 *
 * A waiting thread spins for about 10 µs, which covers the gap between two layers, and then sleeps, so an idle model takes
 * no CPU time. No wake-up is lost, since a sleeper counts itself before it checks the word for the last time. If a thread
 * ends, the others would wait forever; the caller then sets GIVE_UP.
 */

/** Not zero if a thread has ended: every wait that would sleep then traps. */
const GIVE_UP: usize = 0;
/** Threads that sleep or are about to. */
const SLEEPERS: usize = 4;
/** The number of operations started; helpers wait for it to change. */
export const EPOCH: usize = 64;
/** The operation, and the address of its arguments. */
export const OPERATION: usize = 128;
export const ARGUMENTS: usize = 132;
/** Helpers that have finished their part of it. */
export const DONE: usize = 192;
/** Threads that have reached the barrier, and how often it has opened. */
const ARRIVED: usize = 256;
const GENERATION: usize = 320;
/** Bytes of the control block. Words that several threads write lie in separate cache lines. */
export const CONTROL: i32 = 384;

/** Checks of a word before a thread goes to sleep. */
const SPINS: i32 = 40_000;

/**
 * The host's Atomics.wait. `memory.atomic.wait32` in unoptimized code of V8 11 (Node 20) can sleep at address 0 forever.
 */
// @ts-ignore: decorator
@external("env", "sleep")
declare function sleep(address: usize, value: i32): void;

let control: usize = 0;
let threads: i32 = 1;

/** Sets the control block that this thread uses and the number of threads, once per instance of the kernels. */
export function join(block: usize, count: i32): void {
  control = block;
  threads = count;
}

/** Waits until all threads have reached it. */
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
    // Checked again after each wake-up: the caller sets it and wakes the sleepers until all have ended.
    if (atomic.load<i32>(control, GIVE_UP)) unreachable();
    sleep(control + word, value);
  }
  atomic.sub<i32>(control, 1, SLEEPERS);
}

/** Wakes the threads that sleep on a word of the control block, after it was changed. */
export function wake(word: usize): void {
  if (!ASC_FEATURE_THREADS) return;
  if (atomic.load<i32>(control, SLEEPERS) > 0) atomic.notify(control + word, -1);
}

/** Fewest pixels that pay for a thread: threads beyond that divide the output channels. */
export const MIN_PIXELS: i32 = 24;

/** Where part `part` of `parts` of `total` items begins, in multiples of `step`. */
// @ts-ignore: decorator
@inline
export function partition(total: i32, step: i32, part: i32, parts: i32): i32 {
  const steps = (total + step - 1) / step;
  return min(total, ((steps * part) / parts) * step);
}
