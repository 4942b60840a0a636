import { readFile } from 'node:fs/promises';
import * as library from 'vggnet';
import { type SmokeOptions, smoke } from './smoke.js';

/* The smoke test in Node, Deno and Bun: `host-process.js FIXTURE OPTIONS` prints the report. */

const [folder, options] = process.argv.slice(2) as [string, string];
const read = async (name: string): Promise<Uint8Array<ArrayBuffer>> =>
  new Uint8Array(await readFile(`${folder}/${name}`));
console.log(JSON.stringify(await smoke(library, read, JSON.parse(options) as SmokeOptions)));
