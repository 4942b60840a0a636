import type { Codec } from '../image/own/codec.js';
import { compileBytes } from '../wasm/compile.js';
import { nodeWorkers } from '../wasm/workers/spawn.js';
import { readAsset } from './asset.js';

/*
 * The image decoders that lie beside the bundle. Each URL is written out in full, so that bundlers take the file along;
 * codecs-workerd.ts and codecs-inline.ts stand in for this where there are no such files.
 */

const FILES: Record<Codec, () => URL> = {
  jpeg: () => new URL('./codecs/jpeg.wasm', import.meta.url),
  webp: () => new URL('./codecs/webp.wasm', import.meta.url),
};

const loaded = new Map<Codec, Promise<WebAssembly.Module>>();

/** @throws VGGNetError `IO` if the file is not there */
export function loadCodec(codec: Codec): Promise<WebAssembly.Module> {
  const before = loaded.get(codec);
  if (before) return before;
  const module = readAsset(FILES[codec]()).then(compileBytes);
  loaded.set(codec, module);
  // Another call tries again.
  module.catch(() => loaded.delete(codec));
  return module;
}

/** A thread that decodes one picture; undefined where the program's thread has to. */
export function startCodecWorker(): import('node:worker_threads').Worker | undefined {
  const threads = nodeWorkers();
  if (!threads || !import.meta.url.startsWith('file:')) return undefined;
  return new threads.Worker(new URL('./codec-worker.js', import.meta.url), { name: 'vggnet-codec', execArgv: [] });
}
