/**
 * The exports of the low-precision builds, which also take weights in fp16, int8 and int4. They are compiled with LOWP
 * defined, which adds those kernels to `dispatch` and `linear`; the other builds are a third smaller without them.
 */
export * from './index';
export { CONV2D_INT8 } from './parallel';
export { packConv2dInt8, unpackConv2dInt8 } from './conv2d-int8';
export { expandRow, packRow } from './expand';
export { EXPANDED } from './linear';
