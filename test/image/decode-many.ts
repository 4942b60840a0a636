import { readFileSync } from 'node:fs';
import { DecodePool } from '../../src/image/decode-pool.js';
import { IMAGENET_PRESET } from '../../src/image/preset.js';

/*
 * Run by itself: `decode-many.mjs FILE COUNT` decodes a file so many times at once, and prints the process's peak of
 * memory and how long one turn of its event loop kept the main thread busy.
 */

const [, , path = '', count] = process.argv;
const file = new Uint8Array(readFileSync(path));
const pool = new DecodePool();

/** Milliseconds that this thread has run: time in which others had the core is not its own. */
function busy(): number {
  const own = readFileSync(`/proc/self/task/${process.pid}/schedstat`, 'utf8').split(' ')[0];
  return Number(own) / 1e6;
}

let longestTurn = 0;
let start = busy();
let isDone = false;
function turn(): void {
  longestTurn = Math.max(longestTurn, busy() - start);
  start = busy();
  if (!isDone) setImmediate(turn);
}
turn();
await Promise.all(Array.from({ length: Number(count) }, () => pool.imageToTensor(file, IMAGENET_PRESET)));
isDone = true;
const peakMiB = process.resourceUsage().maxRSS / 1024;
process.stdout.write(JSON.stringify({ peakMiB, longestTurn }));
