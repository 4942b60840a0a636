import type { Architecture, VGGConfig } from '../model/config.js';
import type { Precision } from './precision.js';

/** What every layer has: a name as papers write it (`conv3_2`, `fc7`) and torchvision's module path. */
interface Named {
  readonly name: string;
  /** `features.7`, `avgpool`, `classifier.0`; '' where torchvision has no module. */
  readonly path: string;
}

/** 3×3 convolution, stride 1, padding 1: (N, inChannels, H, W) → (N, outChannels, H, W). */
export interface Conv2d extends Named {
  readonly op: 'conv2d';
  readonly inChannels: number;
  readonly outChannels: number;
  /** How its weights are stored. Default 'fp32'. */
  readonly precision?: Exclude<Precision, 'int4'>;
  /** In int8: the largest input that is told from larger ones. Default: the largest of each image. */
  readonly inputRange?: number;
}
/** Batch norm over (N, H, W) of each channel. */
export interface BatchNorm2d extends Named {
  readonly op: 'batchNorm2d';
  readonly channels: number;
  /** Added to the variance. PyTorch's default is 1e-5. */
  readonly eps: number;
  /** In train mode: how far the running statistics move towards the batch's. PyTorch's default is 0.1. */
  readonly momentum: number;
}
export interface ReLU extends Named {
  readonly op: 'relu';
}
/** 2×2 max-pool, stride 2, rounding down: (N, C, H, W) → (N, C, ⌊H/2⌋, ⌊W/2⌋). */
export interface MaxPool2d extends Named {
  readonly op: 'maxPool2d';
}
/** Average over a grid of outputSize², as torch.nn.AdaptiveAvgPool2d cuts it. */
export interface AdaptiveAvgPool2d extends Named {
  readonly op: 'adaptiveAvgPool2d';
  readonly outputSize: number;
}
/** (N, C, H, W) → (N, C·H·W). */
export interface Flatten extends Named {
  readonly op: 'flatten';
}
/** y = x Wᵀ + b: (N, inFeatures) → (N, outFeatures). */
export interface Linear extends Named {
  readonly op: 'linear';
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** How its weights are stored. Default 'fp32'. */
  readonly precision?: Precision;
}
/** In train mode each value is zero with probability p and otherwise scaled by 1 / (1 − p). */
export interface Dropout extends Named {
  readonly op: 'dropout';
  readonly p: number;
}
/** Softmax over the last dimension of (N, F). */
export interface Softmax extends Named {
  readonly op: 'softmax';
}

export type Layer = Conv2d | BatchNorm2d | ReLU | MaxPool2d | AdaptiveAvgPool2d | Flatten | Linear | Dropout | Softmax;

/** A tensor that a layer learns or keeps, by its torchvision name (`features.0.weight`). */
export interface ParameterSpec {
  readonly name: string;
  readonly shape: readonly number[];
  /** False for batch norm's running statistics, which PyTorch calls buffers and does not count. */
  readonly learned: boolean;
}

/** True for layers with weights that can be stored in fewer bits. */
export function isWeighted(layer: Layer): layer is Conv2d | Linear {
  return layer.op === 'conv2d' || layer.op === 'linear';
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

/** The defaults of torch.nn.BatchNorm2d. */
const BATCH_NORM = { eps: 1e-5, momentum: 0.1 };

/** Walks the list: an integer is a convolution (batch norm) ReLU, 'M' a max-pool. */
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

/** Linear, ReLU, dropout, twice; then the linear layer that makes the logits. */
function createClassifier(inFeatures: number, config: VGGConfig): Layer[] {
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

/** The parameters of one layer, in PyTorch's order. */
export function parametersOf(layer: Layer): ParameterSpec[] {
  const spec = (key: string, shape: readonly number[], learned = true): ParameterSpec => ({
    name: `${layer.path}.${key}`,
    shape,
    learned,
  });
  switch (layer.op) {
    case 'conv2d':
      return [spec('weight', [layer.outChannels, layer.inChannels, 3, 3]), spec('bias', [layer.outChannels])];
    case 'linear':
      return [spec('weight', [layer.outFeatures, layer.inFeatures]), spec('bias', [layer.outFeatures])];
    case 'batchNorm2d': {
      const shape = [layer.channels];
      return [
        spec('weight', shape),
        spec('bias', shape),
        spec('running_mean', shape, false),
        spec('running_var', shape, false),
      ];
    }
    default:
      return [];
  }
}
