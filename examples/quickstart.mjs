// Reads the printed characters in examples/images with the embedded model, then runs the lesson's check on the whole
// VGG16: a random image gives 1000 logits.
//
//   npm run build && node examples/quickstart.mjs

import { readdir } from 'node:fs/promises';
import { Tensor, VGGNet } from 'vggnet';

const folder = new URL('images/', import.meta.url);
const files = (await readdir(folder)).filter((file) => file.endsWith('.png')).sort();

const glyphs = await VGGNet.create('glyphs');
for (const file of files) {
  const start = performance.now();
  const best = await glyphs.classify(new URL(file, folder), { topK: 5 });
  const ms = performance.now() - start;
  const shown = best.map(({ label, probability }) => `${label} ${(probability * 100).toFixed(1)}%`);
  console.log(`${file.padEnd(30)} ${shown.join('  ')}  (${ms.toFixed(1)} ms)`);
}
glyphs.dispose();

let start = performance.now();
const vgg16 = await VGGNet.create('vgg16');
console.log(`\nvgg16: ${vgg16.parameters.toLocaleString('en-US')} parameters, drawn from a seed`);
console.log(`made in ${Math.round(performance.now() - start)} ms, on ${vgg16.device.backend} ${vgg16.device.build}`);

start = performance.now();
const logits = await vgg16.forward(Tensor.randn([1, 3, 224, 224]));
console.log(`[${logits.shape.join(', ')}] in ${Math.round(performance.now() - start)} ms`);
vgg16.dispose();

if (logits.shape.join() !== '1,1000') throw new Error(`Expected the shape 1,1000, got ${logits.shape.join()}`);
if (!logits.data.every(Number.isFinite)) throw new Error('Expected finite logits');
