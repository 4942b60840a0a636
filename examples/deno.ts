// Reads the printed characters in pictures.
//
//   deno add npm:vggnet npm:sharp
//   deno run --allow-read --allow-env --allow-ffi deno.ts glyph-A.png glyph-W.png
//
// Reading is for vggnet's own files and the pictures, the rest for sharp, which decodes them.

import { VGGNet } from 'vggnet';

const model = await VGGNet.create('glyphs');
for (const path of Deno.args) {
  const [best] = await model.classify(await Deno.readFile(path), { topK: 1 });
  console.log(path, best?.label, best?.probability.toFixed(3));
}
