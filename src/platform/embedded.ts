/** Where the weights of the embedded model are. A build that has no files beside it takes embedded-apart.ts instead. */
export function glyphsWeights(): URL {
  return new URL('../models/glyphs.safetensors', import.meta.url);
}
