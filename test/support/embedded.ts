/** Stands in for src/platform/embedded.ts, which names the file as the bundles in dist/ see it. */
export function glyphsWeights(): URL {
  return new URL('../../models/glyphs.safetensors', import.meta.url);
}
