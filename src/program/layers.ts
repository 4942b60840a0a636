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
  /** int8 only: inputs are clipped to this value. Default: the largest of each image. */
  readonly inputRange?: number;
}
/** Batch norm over (N, H, W) of each channel. */
export interface BatchNorm2d extends Named {
  readonly op: 'batchNorm2d';
  readonly channels: number;
  /** Normalizes by the running statistics, and keeps them, in train mode too. */
  readonly frozen?: boolean;
  /** Added to the variance. PyTorch's default is 1e-5. */
  readonly eps: number;
  /** In train mode: how far the running statistics move toward the batch's. PyTorch's default is 0.1. */
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

/** True for layers whose weights can be stored in low precision. */
export function isWeighted(layer: Layer): layer is Conv2d | Linear {
  return layer.op === 'conv2d' || layer.op === 'linear';
}

/** True for batch norm that normalizes by its batch, so that each value depends on all of them. */
export function usesBatchStatistics(layer: Layer, mode: 'eval' | 'train'): boolean {
  return layer.op === 'batchNorm2d' && mode === 'train' && !layer.frozen;
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
