/*
 * The operations, each in a file of its own, forward above backward, written to be read: no fusing, no tiling, no special
 * cases for speed. Values are row-major (N, C, H, W) or (N, F). Every sum is accumulated in float64 and rounded once, when
 * it is stored. No function changes its input.
 */
export * from './batchnorm2d.js';
export * from './conv2d.js';
export * from './elementwise.js';
export * from './flatten.js';
export * from './linear.js';
export * from './pool.js';
export * from './softmax.js';
