/**
 * Starts a clock of milliseconds that this process has worked for: its processors' time, or what has passed where
 * that is less, as several threads work at once. Other tests run beside this one, and their work is not its delay;
 * what waits for ever meets the test's own timeout.
 */
export function stopwatch(): () => number {
  const start = performance.now();
  const cpu = process.cpuUsage();
  return () => {
    const { user, system } = process.cpuUsage(cpu);
    return Math.min(performance.now() - start, (user + system) / 1000);
  };
}
