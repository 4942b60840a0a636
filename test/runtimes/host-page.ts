import * as library from 'vggnet';
import { type SmokeOptions, type SmokeReport, smoke } from './smoke.js';

/* The smoke test in a page: the test calls `runSmoke`. */

async function read(name: string): Promise<Uint8Array<ArrayBuffer>> {
  const response = await fetch(`/fixture/${name}`);
  if (!response.ok) throw new Error(`${name}: HTTP ${response.status}`);
  return new Uint8Array(await response.arrayBuffer());
}

declare global {
  var runSmoke: (options: SmokeOptions) => Promise<SmokeReport>;
}

globalThis.runSmoke = (options) => smoke(library, read, options);
