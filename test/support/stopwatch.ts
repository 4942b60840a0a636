import { readdirSync, readFileSync } from 'node:fs';

/**
 * Starts a clock of milliseconds that leaves out those in which this process was ready to run and another had the
 * core: tests run beside each other, and their work is not this one's delay. Sleeping and waiting count. Where the
 * system does not tell (only Linux does), all of the time counts.
 */
export function stopwatch(): () => number {
  const start = performance.now();
  const queued = queuedMs();
  return () => performance.now() - start - Math.max(0, queuedMs() - queued);
}

/** How long the threads of this process have waited for a core; the second figure of schedstat, in nanoseconds. */
function queuedMs(): number {
  try {
    const threads = readdirSync('/proc/self/task');
    return threads.reduce((sum, thread) => sum + queuedNs(thread) / 1e6, 0);
  } catch {
    return 0;
  }
}

function queuedNs(thread: string): number {
  try {
    return Number(readFileSync(`/proc/self/task/${thread}/schedstat`, 'utf8').split(' ')[1]);
  } catch {
    // It has ended since it was listed.
    return 0;
  }
}
