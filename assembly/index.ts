/** The exports of every build. Pointers are byte addresses in the imported memory; the kernels allocate nothing. */
export { MR, NR } from './tile';
export { SCRATCH, gemm } from './gemm';
export { CONV2D, LINEAR, MAX_POOL2D, WINOGRAD, helper, parallel } from './parallel';
export { CONTROL } from './threads';
export { packConv2d } from './conv2d';
export { packWinograd } from './winograd-pack';
export { adaptiveAvgPool2d } from './pool';
export { clearBorder, toNCHW, toPaddedNHWC } from './layout';
export { affine2d, batchStatistics } from './batchnorm2d';
export { dropout, relu, softmax } from './elementwise';
