import { VGGNetError } from '../errors.js';
import { inferShapes, usualShape } from '../program/shape.js';
import { numel } from '../tensor.js';
import { createLayers, type VGGConfig } from '../vgg.js';

/** Of a layer's input and output. VGG16 has 25 MiB at 224×224, and 134 at 512×512. */
const MAX_ACTIVATION_BYTES = 2 ** 28;

/**
 * The limit of memory for a file that describes its network: its weights are as large as the file, but how large an
 * image is to be is a number in it. A limit of the caller's takes the place of this one.
 * @throws VGGNetError `OUT_OF_MEMORY` if one input of the usual size would need far more than any VGG does
 */
export function checkDescribed(config: VGGConfig, memoryLimit: number | undefined): void {
  if (memoryLimit !== undefined) return;
  const layers = createLayers(config);
  const usual = usualShape(layers, config.preset?.crop);
  const sizes = [usual, ...inferShapes(layers, usual)].map(numel);
  for (const [i, size] of sizes.entries()) {
    const bytes = (size + (sizes[i + 1] ?? 0)) * Float32Array.BYTES_PER_ELEMENT;
    if (bytes <= MAX_ACTIVATION_BYTES) continue;
    throw new VGGNetError(
      'OUT_OF_MEMORY',
      `The file asks for inputs of ${usual.slice(1).join('×')}, for which a layer needs ${Math.ceil(bytes / 2 ** 20)} MiB, ` +
        `over ${MAX_ACTIVATION_BYTES / 2 ** 20}. If it is to be trusted, give a memoryLimit`,
    );
  }
}
