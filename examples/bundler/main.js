// Reads a character in a picture that the visitor chooses.

import { VGGNet } from 'vggnet';

const input = document.querySelector('input');
const output = document.querySelector('output');

const model = await VGGNet.create('glyphs');
output.textContent = `Ready, on ${model.device.backend} with ${model.device.threads} threads`;
input.disabled = false;

input.addEventListener('change', async () => {
  try {
    const [best] = await model.classify(input.files[0]);
    output.textContent = `${best.label} ${(best.probability * 100).toFixed(1)}%`;
  } catch (error) {
    output.textContent = error.message;
  }
});
