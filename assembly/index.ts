/** What the module exports. All pointers are byte addresses in the imported memory; nothing is allocated here. */
export { MR, NR, setEpilogue } from './tile';
export { SCRATCH, gemm, packB } from './gemm';
export { CONV2D, CONV2D_INT8, LINEAR, MAX_POOL2D, WINOGRAD, helper, parallel } from './parallel';
export { CONTROL } from './team';
export { packConv2d, unpackConv2d } from './conv2d';
export { packConv2dInt8, unpackConv2dInt8 } from './conv2d-int8';
export { expandRow, packRow } from './expand';
export { EXPANDED } from './linear';
export { packWinograd } from './winograd';
export { adaptiveAvgPool2d } from './pool';
export { clearBorder, toNCHW, toPaddedNHWC } from './layout';
export { affine2d, batchStatistics } from './batchnorm2d';
export { dropout, relu, softmax } from './elementwise';
