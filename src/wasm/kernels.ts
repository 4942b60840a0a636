import { VGGNetError } from '../errors.js';
import { loadKernels } from '../platform/assets.js';
import { isWeighted, type Layer } from '../program/layers.js';
import type { Int8Speed } from './plan/algorithm.js';

/** The kernel builds, all from the same sources in assembly/. */
export type KernelBuild = 'simd' | 'relaxed-simd';

/** A file of dist/kernels: with `-threads` it needs a shared memory, with `-narrow` it takes weights in fewer bits too. */
export type KernelFile = `${KernelBuild}${'' | '-threads'}${'' | '-narrow'}`;

/**
 * What a build exports; the arguments are described in assembly/. Addresses are in bytes. EXPANDED, CONV2D_INT8 and what
 * packs Int8 and rows are of the narrow builds alone.
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
  parallel(operation: number, args: number, control: number, threads: number): void;
  helper(control: number, thread: number, threads: number): void;
  setEpilogue(scale: number, shift: number, relu: number, columns: number): void;
  gemm(
    m: number,
    n: number,
    k: number,
    a: number,
    lda: number,
    b: number,
    c: number,
    ldc: number,
    scratch: number,
  ): void;
  packB(k: number, n: number, b: number, packed: number): void;
  packConv2d(
    values: number,
    offset: number,
    count: number,
    packed: number,
    inChannels: number,
    inStride: number,
    back: number,
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
  dropout(values: number, count: number, seed: number, layer: number, threshold: number, scale: number): void;
  softmax(input: number, output: number, rows: number, count: number): void;
}

/** A module of one function of type () → v128 whose body is `code`: valid only where its instructions are known. */
function probe(code: readonly number[]): Uint8Array<ArrayBuffer> {
  const body = [0, ...code, 0x0b];
  // biome-ignore format: a section a line
  return new Uint8Array([
    0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
    1, 5, 1, 0x60, 0, 1, 0x7b,
    3, 2, 1, 0,
    10, body.length + 2, 1, body.length, ...body,
  ]);
}

/** i32.const 1, i8x16.splat */
const SPLAT = [0x41, 1, 0xfd, 0x0f];
/** f32x4.relaxed_madd */
const RELAXED_MADD = [0xfd, 0x85, 0x02];

/** A module of one function of type () → i32, `f`: a relaxed dot product of operands that are all on the stack. */
// biome-ignore format: a section a line
const DOT = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
  1, 5, 1, 0x60, 0, 1, 0x7f,
  3, 2, 1, 0,
  7, 5, 1, 1, 0x66, 0, 0,
  10, 22, 1, 20, 0, 0x41, 3, 0xfd, 0x0f, 0x41, 5, 0xfd, 0x0f, 0x41, 7, 0xfd, 0x11, 0xfd, 0x93, 0x02, 0xfd, 0x1b, 0, 0x0b,
]);

/**
 * How fast convolutions in whole numbers are beside those in float32: with the relaxed dot product, or without. 'none'
 * where it is wrong: in V8 11 (Node 20, by a flag) code that has not been optimised yet writes over an operand.
 */
export function int8Speed(build: KernelBuild): Int8Speed {
  if (build === 'simd') return 'slow';
  try {
    const { f } = new WebAssembly.Instance(new WebAssembly.Module(DOT)).exports as { f: () => number };
    return f() === 4 * 3 * 5 + 7 ? 'fast' : 'none';
  } catch {
    // An edge worker compiles nothing at run time. Those have newer engines.
    return 'fast';
  }
}

/**
 * The best build that this runtime validates; `deterministic` asks for plain SIMD, whose results are the same to
 * the bit on every machine.
 * @throws VGGNetError `BACKEND_UNAVAILABLE` where WebAssembly or its SIMD instructions are missing
 */
export function chooseBuild(deterministic: boolean): KernelBuild {
  if (typeof WebAssembly !== 'object') {
    throw new VGGNetError('BACKEND_UNAVAILABLE', 'This runtime has no WebAssembly, which the wasm backend needs');
  }
  if (!WebAssembly.validate(probe(SPLAT))) {
    throw new VGGNetError(
      'BACKEND_UNAVAILABLE',
      'This runtime has no WebAssembly SIMD (fixed-width 128-bit), which the wasm backend needs',
    );
  }
  const relaxed = WebAssembly.validate(probe([...SPLAT, ...SPLAT, ...SPLAT, ...RELAXED_MADD]));
  return relaxed && !deterministic ? 'relaxed-simd' : 'simd';
}

/** The file for a network: a page whose weights are float32 need not load the kernels for fewer bits. */
export function kernelFile(build: KernelBuild, threads: number, layers: readonly Layer[]): KernelFile {
  const narrow = layers.some((layer) => isWeighted(layer) && layer.precision !== undefined);
  return `${build}${threads > 1 ? '-threads' : ''}${narrow ? '-narrow' : ''}`;
}

const modules = new Map<KernelFile, Promise<WebAssembly.Module>>();

/** Loads a build once; the module may be sent to a worker. */
export function compileKernels(file: KernelFile): Promise<WebAssembly.Module> {
  let module = modules.get(file);
  if (!module) {
    module = loadKernels(file);
    // A failed download may be tried again.
    module.catch(() => modules.delete(file));
    modules.set(file, module);
  }
  return module;
}
