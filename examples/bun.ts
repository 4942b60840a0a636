// Reads the printed characters in pictures.
//
//   bun add vggnet sharp
//   bun bun.ts glyph-A.png glyph-W.png

import { VGGNet } from 'vggnet';

const model = await VGGNet.create('glyphs');
for (const path of Bun.argv.slice(2)) {
  const [best] = await model.classify(Bun.file(path), { topK: 1 });
  console.log(path, best?.label, best?.probability.toFixed(3));
}
