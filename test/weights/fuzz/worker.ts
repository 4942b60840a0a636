import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { formatsOf, makeCase, runCase } from './cases.js';

/*
 * Runs a part of the cases in a process of its own, and tells scripts/fuzz.mjs about each: which it begins, so that it
 * knows the one that hangs or ends the process, and what came of it.
 * Arguments: repository, format, seed, first case, number of cases.
 */

const [root = '', format = '', seed = '0', first = '0', count = '0'] = process.argv.slice(2);
const send = (message: object): void => {
  process.send?.(message);
};
const formats = await formatsOf((name) => new Uint8Array(readFileSync(join(root, 'test/golden/checkpoints', name))));
const make = formats[format];
if (!make) throw new Error(`the formats are ${Object.keys(formats).join(', ')}`);
process.on('unhandledRejection', (error) => send({ unhandled: String(error instanceof Error ? error.stack : error) }));
const outcomes: Record<string, number> = {};
for (let index = Number(first); index < Number(first) + Number(count); index++) {
  const bytes = makeCase(make, Number(seed), index);
  if (index % 16 === 0) send({ index, outcomes });
  // Of the processor: the machine may do other things too.
  const start = process.cpuUsage();
  let outcome: string;
  try {
    outcome = await runCase(bytes, index);
  } catch (error) {
    outcome = 'untyped';
    send({ index, untyped: String(error instanceof Error ? error.stack : error) });
  }
  const { user, system } = process.cpuUsage(start);
  const ms = (user + system) / 1000;
  if (ms > 2000) send({ index, slow: Math.round(ms) });
  outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  if (index % 256 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
}
send({ outcomes, done: true, peak: Math.round(process.resourceUsage().maxRSS / 1024) });
process.disconnect?.();
