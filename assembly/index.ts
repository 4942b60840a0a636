/** What the module exports. All pointers are byte addresses in the imported memory; nothing is allocated here. */
export { MR, NR, setEpilogue } from './tile';
export { SCRATCH, gemm, packB } from './gemm';
export { conv2d, packConv2d, unpackConv2d } from './conv2d';
export { packWinograd, winograd, winogradWorkspace } from './winograd';
export { maxPool2d, adaptiveAvgPool2d } from './pool';
export { clearBorder, toNCHW, toPaddedNHWC } from './layout';
export { linear } from './linear';
export { affine2d, batchStatistics } from './batchnorm2d';
export { dropout, relu, softmax } from './elementwise';
