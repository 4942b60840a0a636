/* The argument structs of the kernels of the backward pass, described as those of args.ts. */

/** `FlipConv2dArgs` of assembly/conv2d-backward.ts */
export const FLIP_CONV2D = 'packed flipped inStride outStride';
/** `Conv2dWeightGradientArgs` of assembly/conv2d-backward.ts */
export const CONV2D_WEIGHT_GRADIENT = 'input gradient weights images height width inStride outStride';
/** `LinearBackwardArgs` of assembly/linear-backward.ts */
export const LINEAR_BACKWARD = 'gradient weights values batch inFeatures outFeatures';
/** `MaxPool2dArgmaxArgs` of assembly/pool-backward.ts */
export const MAX_POOL2D_ARGMAX = 'input output argmax images height width stride';
/** `ElementwiseBackwardArgs` of assembly/elementwise-backward.ts */
export const ELEMENTWISE_BACKWARD = 'gradient values count guided';
/** `ChannelSumsArgs` of assembly/batchnorm2d-backward.ts */
export const CHANNEL_SUMS = 'gradient values mean totals products images height width stride';
/** `BatchNorm2dBackwardArgs` of assembly/batchnorm2d-backward.ts */
export const BATCH_NORM2D_BACKWARD = 'gradient values mean scale slope shift images height width stride';
