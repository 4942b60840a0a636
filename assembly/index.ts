/** What every build exports. All pointers are byte addresses in the imported memory; nothing is allocated here. */
export { MR, NR, setEpilogue } from './tile';
export { SCRATCH, gemm, packB } from './gemm';
export { CONV2D, LINEAR, MAX_POOL2D, WINOGRAD, helper, parallel } from './parallel';
export { CONTROL } from './threads';
export { packConv2d } from './conv2d';
export { packWinograd } from './winograd-pack';
export { adaptiveAvgPool2d } from './pool';
export { clearBorder, toNCHW, toPaddedNHWC } from './layout';
export { affine2d, batchStatistics } from './batchnorm2d';
export { dropout, relu, softmax } from './elementwise';
