import { messageOf, VGGNetError } from '../errors.js';
import type { Codec } from '../image/own/codec.js';
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

/** @throws VGGNetError `IO` if the file is not there; `BACKEND_UNAVAILABLE` if compilation is forbidden */
export function loadCodec(codec: Codec): Promise<WebAssembly.Module> {
  const before = loaded.get(codec);
  if (before) return before;
  const module = readAsset(FILES[codec]()).then(compile);
  loaded.set(codec, module);
  // Another call tries again.
  module.catch(() => loaded.delete(codec));
  return module;
}

async function compile(bytes: Uint8Array<ArrayBuffer>): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(bytes);
  } catch (cause) {
    const message = `An image decoder could not be compiled: ${messageOf(cause)}`;
    throw new VGGNetError('BACKEND_UNAVAILABLE', message, { cause });
  }
}

/** A thread that decodes one picture; undefined where the program's thread has to. */
export function startCodecWorker(): import('node:worker_threads').Worker | undefined {
  const threads = globalThis.process?.getBuiltinModule?.('node:worker_threads');
  if (!threads || !import.meta.url.startsWith('file:')) return undefined;
  return new threads.Worker(new URL('./codec-worker.js', import.meta.url), { name: 'vggnet-codec', execArgv: [] });
}
