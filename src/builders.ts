import type { CreateOptions } from './model/options.js';
import { VGGNet } from './model.js';

/** Builds one network of the family; the options are those of `VGGNet.create`. */
export type Builder = (options?: CreateOptions) => Promise<VGGNet>;

export const vgg11: Builder = (options) => VGGNet.create('vgg11', options);
export const vgg11_bn: Builder = (options) => VGGNet.create('vgg11_bn', options);
export const vgg13: Builder = (options) => VGGNet.create('vgg13', options);
export const vgg13_bn: Builder = (options) => VGGNet.create('vgg13_bn', options);
export const vgg16: Builder = (options) => VGGNet.create('vgg16', options);
export const vgg16_bn: Builder = (options) => VGGNet.create('vgg16_bn', options);
export const vgg19: Builder = (options) => VGGNet.create('vgg19', options);
export const vgg19_bn: Builder = (options) => VGGNet.create('vgg19_bn', options);
