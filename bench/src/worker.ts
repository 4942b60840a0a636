/*
 * The script of a measuring process, in Node, Deno or Bun: requests come as lines of JSON on stdin, and answers go
 * out on stdout behind a mark, since systems may print there too. It ends when stdin does, so it never outlives its
 * parent.
 */
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { Host, type Request } from './host.js';
import { Unavailable } from './job.js';
import { ANSWER, type Answer } from './protocol.js';

// An interrupt at the terminal reaches the whole group; the parent decides what it means.
process.on('SIGINT', () => {});

const host = new Host();
let turn: Promise<void> = Promise.resolve();
const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => {
  turn = turn.then(() => reply(line));
});
lines.on('close', () => process.exit(0));

async function reply(line: string): Promise<void> {
  const request = JSON.parse(line) as Request | { readonly call: 'memory' };
  let answer: Answer;
  try {
    const result = request.call === 'memory' ? peakMemory() : await host.handle(request);
    answer = { result };
  } catch (error) {
    const { message } = error instanceof Error ? error : new Error(String(error));
    answer = { error: message, unavailable: error instanceof Unavailable };
  }
  process.stdout.write(`${ANSWER}${JSON.stringify(answer)}\n`);
}

/** Linux counts it for the process; elsewhere resourceUsage does, in KiB. */
function peakMemory(): number | undefined {
  try {
    const kib = readFileSync('/proc/self/status', 'utf8').match(/^VmHWM:\s*(\d+) kB$/m)?.[1];
    if (kib) return Number(kib) * 1024;
  } catch {
    // No Linux.
  }
  try {
    return process.resourceUsage().maxRSS * 1024;
  } catch {
    return undefined;
  }
}
