import { VGGNet } from 'vggnet';

/* What a visitor's browser does whose downloads are added up (bundles.test.ts). */

declare global {
  var visit: () => Promise<string[]>;
}

/** Reads a picture with the embedded model on each backend. */
globalThis.visit = async () => {
  const read: string[] = [];
  for (const device of ['wasm', 'webgpu'] as const) {
    const model = await VGGNet.load('/glyphs.safetensors', { device });
    const [best] = await model.classify('/glyph.png', { topK: 1 });
    read.push(`${device} ${best?.label}`);
    model.dispose();
  }
  return read;
};
