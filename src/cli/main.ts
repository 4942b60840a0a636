#!/usr/bin/env node
import { exitCodeOf, reportFailure } from './failure.js';
import { run } from './program.js';

/*
 * The `vggnet` command: signals, closed pipes and the exit code. Results go to stdout, all else to stderr.
 */

const controller = new AbortController();
/** The exit code, once something outside has stopped the run. */
let stopped: number | undefined;

function stop(exitCode: number): void {
  stopped ??= exitCode;
  // For the output that fails to drain when all else is done.
  process.exitCode ||= exitCode;
  controller.abort();
}

// Once: a second Ctrl-C ends the process at once.
process.once('SIGINT', () => stop(130));
process.once('SIGTERM', () => stop(143));

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // The reader has seen enough, as in `vggnet classify *.png | head`.
  if (error.code === 'EPIPE') return stop(0);
  process.stderr.write(`vggnet: Could not write the results: ${error.message} (IO)\n`);
  stop(1);
});
// Nobody is left to be told.
process.stderr.on('error', () => {});

let exitCode: number;
try {
  exitCode = await run(process.argv.slice(2), controller.signal);
  // A command that ends well after a signal, as a server does, has its own exit code.
  if (stopped === 130 || stopped === 143) stopped = undefined;
} catch (error) {
  exitCode = exitCodeOf(error);
  if (stopped === undefined) reportFailure(error);
}
process.exitCode = stopped ?? exitCode;
