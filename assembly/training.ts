/**
 * What the builds export that compute gradients: everything, since they are used for what the others are too. They are
 * compiled with TRAINING defined, which brings the kernels of the backward pass into `share`.
 */
export * from './lowp';
export {
  ADD_GRADIENT,
  BATCH_NORM2D_INPUT_GRADIENT,
  CHANNEL_SUMS,
  CONV2D_WEIGHT_GRADIENT,
  FLIP_CONV2D,
  LINEAR_INPUT_GRADIENT,
  LINEAR_WEIGHT_GRADIENT,
  MAX_POOL2D_ARGMAX,
  MAX_POOL2D_INPUT_GRADIENT,
  RELU_INPUT_GRADIENT,
} from './parallel';
export { adaptiveAvgPool2dInputGradient } from './pool-backward';
export { softmaxInputGradient } from './elementwise-backward';
