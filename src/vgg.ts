import type { ImagePreset } from './image/preset.js';
import type { Layer } from './program/layers.js';

/*
 * The VGG family on one page: a list says everything about a network's convolutions, and a walk over the list makes its
 * layers. The layers are data; model.ts gives them weights, and a backend (backend.ts) computes them.
 *
 * This file imports types only, so that a bundler which is asked for VGG_TYPES alone keeps nothing else.
 */

/** The output channels of each 3×3 convolution, and 'M' for each 2×2 max-pool. */
export type Architecture = readonly (number | 'M')[];

/**
 * Configurations A, B, D and E of Simonyan and Zisserman,
 * "Very Deep Convolutional Networks for Large-Scale Image Recognition", 2014.
 */
export const VGG_TYPES: {
  readonly VGG11: Architecture;
  readonly VGG13: Architecture;
  readonly VGG16: Architecture;
  readonly VGG19: Architecture;
} = {
  VGG11: [64, 'M', 128, 'M', 256, 256, 'M', 512, 512, 'M', 512, 512, 'M'],
  VGG13: [64, 64, 'M', 128, 128, 'M', 256, 256, 'M', 512, 512, 'M', 512, 512, 'M'],
  VGG16: [64, 64, 'M', 128, 128, 'M', 256, 256, 256, 'M', 512, 512, 512, 'M', 512, 512, 512, 'M'],
  // biome-ignore format: a block a line reads best
  VGG19: [
    64, 64, 'M', 128, 128, 'M', 256, 256, 256, 256, 'M',
    512, 512, 512, 512, 'M', 512, 512, 512, 512, 'M',
  ],
};

/** The networks that have a name, as torchvision spells them. */
export type ModelName = 'vgg11' | 'vgg13' | 'vgg16' | 'vgg19' | 'vgg11_bn' | 'vgg13_bn' | 'vgg16_bn' | 'vgg19_bn';

export const MODEL_NAMES: readonly ModelName[] = [
  'vgg11',
  'vgg13',
  'vgg16',
  'vgg19',
  'vgg11_bn',
  'vgg13_bn',
  'vgg16_bn',
  'vgg19_bn',
];

/** What can be chosen about a network. The defaults are those of the lesson and of torchvision. */
export interface ModelOptions {
  /** Channels of the input image. Default 3. */
  inChannels?: number;
  /** Length of the logits. Default 1000. */
  numClasses?: number;
  /** Batch norm after each convolution. Default: by the name, and true for a list, as in the lesson. */
  batchNorm?: boolean;
  /** Width of the two hidden linear layers. Default 4096. */
  hiddenFeatures?: number;
  /** Side of the grid that the adaptive average pool hands to the classifier. Default 7. */
  poolSize?: number;
  /** Probability that dropout drops a value in train mode. Default 0.5. */
  dropout?: number;
}

/** A network, fully described: all that is needed to build its layers. */
export interface VGGConfig extends Readonly<Required<ModelOptions>> {
  readonly name: string;
  readonly architecture: Architecture;
  /** Class names, `numClasses` of them, where they are known. */
  readonly labels?: readonly string[] | undefined;
  /** How an image becomes this network's input. */
  readonly preset?: ImagePreset | undefined;
}

/** All layers of a network in order: convolutions, classifier, softmax. */
export function createLayers(config: VGGConfig): Layer[] {
  const lastChannels = config.architecture.findLast((entry) => entry !== 'M') as number;
  return [
    ...createConvLayers(config.architecture, config.inChannels, config.batchNorm),
    { op: 'adaptiveAvgPool2d', name: 'avgpool', path: 'avgpool', outputSize: config.poolSize },
    { op: 'flatten', name: 'flatten', path: '' },
    ...createClassifier(lastChannels * config.poolSize ** 2, config),
    { op: 'softmax', name: 'prob', path: '' },
  ];
}

/** Walks the list: an integer is a convolution, batch norm if wanted, and ReLU; 'M' is a max-pool. */
export function createConvLayers(architecture: Architecture, inChannels: number, batchNorm: boolean): Layer[] {
  const layers: Layer[] = [];
  const path = (): string => `features.${layers.length}`;
  let channels = inChannels;
  let block = 1;
  let index = 1;
  for (const entry of architecture) {
    if (entry === 'M') {
      layers.push({ op: 'maxPool2d', name: `pool${block}`, path: path() });
      block++;
      index = 1;
      continue;
    }
    const at = `${block}_${index}`;
    layers.push({ op: 'conv2d', name: `conv${at}`, path: path(), inChannels: channels, outChannels: entry });
    if (batchNorm) layers.push({ op: 'batchNorm2d', name: `bn${at}`, path: path(), channels: entry, ...BATCH_NORM });
    layers.push({ op: 'relu', name: `relu${at}`, path: path() });
    channels = entry;
    index++;
  }
  return layers;
}

/** The defaults of torch.nn.BatchNorm2d. */
const BATCH_NORM = { eps: 1e-5, momentum: 0.1 };

/** Linear, ReLU, dropout, twice; then the linear layer that makes the logits. */
export function createClassifier(inFeatures: number, config: VGGConfig): Layer[] {
  const { hiddenFeatures, numClasses, dropout } = config;
  return [
    { op: 'linear', name: 'fc6', path: 'classifier.0', inFeatures, outFeatures: hiddenFeatures },
    { op: 'relu', name: 'relu6', path: 'classifier.1' },
    { op: 'dropout', name: 'drop6', path: 'classifier.2', p: dropout },
    { op: 'linear', name: 'fc7', path: 'classifier.3', inFeatures: hiddenFeatures, outFeatures: hiddenFeatures },
    { op: 'relu', name: 'relu7', path: 'classifier.4' },
    { op: 'dropout', name: 'drop7', path: 'classifier.5', p: dropout },
    { op: 'linear', name: 'fc8', path: 'classifier.6', inFeatures: hiddenFeatures, outFeatures: numClasses },
  ];
}
