import { VGGNetError } from '../errors.js';

/** Stands in for embedded.ts in the builds for edge workers and for single files, which bring no weights along. */
export function glyphsWeights(): never {
  throw new VGGNetError(
    'IO',
    "This build of vggnet brings no weights along: import 'vggnet/models/glyphs.safetensors' as bytes, and pass them as weights",
  );
}
