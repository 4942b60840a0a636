import { VGGNetError } from '../errors.js';
import type { Codec } from '../image/own/codec.js';

/*
 * Stands in for codecs.ts in `vggnet/inline`, where the decoders would be half of the file; pages, which it is for,
 * have the browser's.
 */

export async function loadCodec(codec: Codec): Promise<WebAssembly.Module> {
  throw new VGGNetError(
    'BACKEND_UNAVAILABLE',
    `vggnet/inline has no ${codec} decoder; import vggnet, or install sharp`,
  );
}

export function startCodecWorker(): undefined {
  return undefined;
}
