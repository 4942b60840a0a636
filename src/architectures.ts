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
