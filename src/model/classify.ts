import { VGGNetError } from '../errors.js';
import type { ImageInput } from '../image/decode.js';
import { loadImageNetLabels } from '../image/labels.js';
import { layerNamed } from '../program/names.js';
import { formatShape, Tensor } from '../tensor.js';
import type { VGGConfig } from '../vgg.js';
import type { Network } from './network.js';
import type { ClassifyOptions, ForwardOptions } from './options.js';
import { type Prediction, topClasses } from './predictions.js';
import { preprocess } from './preprocess.js';

/** The most likely classes of an image, best first; of a list of images, a list of them. */
export async function classify<Image extends ImageInput | Tensor>(
  network: Network,
  images: Image | readonly Image[],
  options: ClassifyOptions,
): Promise<Prediction[] | Prediction[][]> {
  network.checkLive();
  layerNamed(network.layers, 'prob');
  const { numClasses } = network.config;
  const { topK = Math.min(5, numClasses) } = options;
  if (!Number.isInteger(topK) || topK < 1 || topK > numClasses) {
    throw new VGGNetError('INVALID_ARGUMENT', `topK must be an integer from 1 to ${numClasses}, got ${String(topK)}`);
  }
  const one = async (image: Image): Promise<Prediction[]> => {
    const { data } = await probabilities(network, image, options);
    return topClasses(data, topK, await labelsOf(network.config));
  };
  if (!Array.isArray(images)) return one(images as Image);
  const results: Prediction[][] = [];
  for (const image of images) results.push(await one(image));
  return results;
}

async function probabilities(network: Network, image: ImageInput | Tensor, options: ForwardOptions): Promise<Tensor> {
  const input = image instanceof Tensor ? image : ((await preprocess(network, image, options)) as Tensor);
  if (input.shape[0] !== 1) {
    throw new VGGNetError('INVALID_SHAPE', `classify expects one image, (1, C, H, W), got ${formatShape(input.shape)}`);
  }
  const { signal } = options;
  const [output] = await network.run(input, ['prob'], { signal });
  return output as Tensor;
}

/** The class names: the model's own, ImageNet's for 1000 classes, or 'class 0', 'class 1', …. */
export async function labelsOf({ labels, numClasses }: VGGConfig): Promise<readonly string[]> {
  if (labels) return labels;
  return numClasses === 1000 ? loadImageNetLabels() : Array.from({ length: numClasses }, (_, i) => `class ${i}`);
}
