/* The kernel builds in dist/kernels, all compiled from the sources in assembly/, and what they export. */

/** The instructions that a build uses. */
export type KernelBuild = 'simd' | 'relaxed-simd';

/**
 * A file of dist/kernels: `-threads` needs a shared memory, `-lowp` also takes weights in fp16, int8 and int4, and
 * `-training` also computes gradients.
 */
export type KernelFile = `${KernelBuild}${'' | '-threads'}${'' | '-lowp' | '-training'}`;

/**
 * The exports of a build; assembly/ describes the arguments. Addresses are in bytes. Only the `-lowp` files have EXPANDED,
 * CONV2D_INT8, and the functions that pack and unpack integers and rows, and only the `-training` files what has GRADIENT in
 * its name, FLIP_CONV2D, MAX_POOL2D_ARGMAX and CHANNEL_SUMS.
 */
export interface Kernels {
  readonly MR: WebAssembly.Global;
  readonly NR: WebAssembly.Global;
  readonly SCRATCH: WebAssembly.Global;
  readonly CONTROL: WebAssembly.Global;
  readonly EXPANDED: WebAssembly.Global;
  readonly CONV2D: WebAssembly.Global;
  readonly CONV2D_INT8: WebAssembly.Global;
  readonly WINOGRAD: WebAssembly.Global;
  readonly MAX_POOL2D: WebAssembly.Global;
  readonly LINEAR: WebAssembly.Global;
  readonly FLIP_CONV2D: WebAssembly.Global;
  readonly CONV2D_WEIGHT_GRADIENT: WebAssembly.Global;
  readonly LINEAR_INPUT_GRADIENT: WebAssembly.Global;
  readonly LINEAR_WEIGHT_GRADIENT: WebAssembly.Global;
  readonly MAX_POOL2D_ARGMAX: WebAssembly.Global;
  readonly MAX_POOL2D_INPUT_GRADIENT: WebAssembly.Global;
  readonly RELU_INPUT_GRADIENT: WebAssembly.Global;
  readonly ADD_GRADIENT: WebAssembly.Global;
  readonly CHANNEL_SUMS: WebAssembly.Global;
  readonly BATCH_NORM2D_INPUT_GRADIENT: WebAssembly.Global;
  parallel(operation: number, args: number, control: number, threads: number): void;
  helper(control: number, thread: number, threads: number): void;
  gemm(args: number): void;
  packConv2d(
    values: number,
    offset: number,
    count: number,
    packed: number,
    inChannels: number,
    inStride: number,
    unpack: number,
  ): void;
  packConv2dInt8(
    values: number,
    oc: number,
    inChannels: number,
    inStride: number,
    packed: number,
    scales: number,
  ): void;
  unpackConv2dInt8(
    packed: number,
    scales: number,
    oc: number,
    inChannels: number,
    inStride: number,
    values: number,
  ): void;
  packRow(kind: number, values: number, columns: number, row: number, scales: number): void;
  expandRow(kind: number, row: number, scales: number, from: number, to: number, out: number): void;
  packWinograd(
    size: number,
    direct: number,
    packed: number,
    outChannels: number,
    inStride: number,
    vectors: number,
  ): void;
  adaptiveAvgPool2d(
    input: number,
    output: number,
    n: number,
    c: number,
    h: number,
    w: number,
    stride: number,
    size: number,
  ): void;
  adaptiveAvgPool2dInputGradient(
    gradient: number,
    output: number,
    n: number,
    c: number,
    h: number,
    w: number,
    stride: number,
    size: number,
  ): void;
  softmaxInputGradient(gradient: number, output: number, rows: number, count: number): void;
  toPaddedNHWC(input: number, output: number, n: number, c: number, h: number, w: number, stride: number): void;
  toNCHW(input: number, output: number, n: number, c: number, h: number, w: number, stride: number): void;
  clearBorder(buffer: number, n: number, h: number, w: number, stride: number): void;
  affine2d(
    buffer: number,
    n: number,
    h: number,
    w: number,
    stride: number,
    scale: number,
    shift: number,
    relu: number,
  ): void;
  batchStatistics(input: number, n: number, h: number, w: number, stride: number, mean: number, variance: number): void;
  relu(values: number, count: number): void;
  dropout(values: number, count: number, base: number, threshold: number, scale: number): void;
  softmax(input: number, output: number, rows: number, count: number): void;
}
