import { readFile } from 'node:fs/promises';
import { Worker } from 'node:worker_threads';
import type { Codec } from '../../src/image/own/codec.js';

/*
 * Stands in for src/platform/codecs.ts where the sources are tested: what lies beside the bundle is in dist/.
 */

const dist = new URL('../../dist/', import.meta.url);

export async function loadCodec(codec: Codec): Promise<WebAssembly.Module> {
  return WebAssembly.compile(new Uint8Array(await readFile(new URL(`codecs/${codec}.wasm`, dist))));
}

export function startCodecWorker(): Worker {
  return new Worker(new URL('codec-worker.js', dist), { execArgv: [] });
}
