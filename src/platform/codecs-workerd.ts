import type { Codec } from '../image/own/codec.js';
import jpeg from './codecs/jpeg.wasm';
import webp from './codecs/webp.wasm';

/*
 * Stands in for codecs.ts where `workerd` resolves the package: it compiles no bytes, so the decoders are modules that
 * it links in, and it has no threads.
 */

const MODULES: Record<Codec, WebAssembly.Module> = { jpeg, webp };

export async function loadCodec(codec: Codec): Promise<WebAssembly.Module> {
  return MODULES[codec];
}

export function startCodecWorker(): undefined {
  return undefined;
}
