import { VGGNetError } from '../errors.js';
import { loadKernels } from '../platform/assets.js';
import { isWeighted, type Layer } from '../program/layers.js';
import type { KernelBuild, KernelFile } from './kernels.js';
import type { Int8Speed } from './plan/algorithm.js';

/* Which kernel build a runtime and a network get: features are probed, never inferred from a runtime's name. */

/** A module of one function of type () → v128 whose body is `code`: valid only where the runtime knows its instructions. */
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

/** A module that exports `f`, of type () → i32: a relaxed dot product whose operands are all on the stack. */
// biome-ignore format: a section a line
const DOT = new Uint8Array([
  0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0,
  1, 5, 1, 0x60, 0, 1, 0x7f,
  3, 2, 1, 0,
  7, 5, 1, 1, 0x66, 0, 0,
  10, 22, 1, 20, 0, 0x41, 3, 0xfd, 0x0f, 0x41, 5, 0xfd, 0x0f, 0x41, 7, 0xfd, 0x11, 0xfd, 0x93, 0x02, 0xfd, 0x1b, 0, 0x0b,
]);

/**
 * How integer convolutions compare with float32 on this runtime: 'fast' with the relaxed dot product, 'slow' without.
 * 'none' where that instruction is wrong: unoptimized code of V8 11 (Node 20, behind a flag) overwrites an operand.
 */
export function int8Speed(build: KernelBuild): Int8Speed {
  if (build === 'simd') return 'slow';
  try {
    const { f } = new WebAssembly.Instance(new WebAssembly.Module(DOT)).exports as { f: () => number };
    return f() === 4 * 3 * 5 + 7 ? 'fast' : 'none';
  } catch {
    // An edge worker compiles nothing at run time. Its engine is newer than that.
    return 'fast';
  }
}

/**
 * The fastest build that this runtime validates. `deterministic` selects plain SIMD, whose results are the same to the
 * bit on every machine.
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

/** The file for a network: a page whose weights are all float32 does not download the low-precision kernels. */
export function kernelFile(build: KernelBuild, threads: number, layers: readonly Layer[]): KernelFile {
  const lowp = layers.some((layer) => isWeighted(layer) && layer.precision !== undefined);
  return `${build}${threads > 1 ? '-threads' : ''}${lowp ? '-lowp' : ''}`;
}

const modules = new Map<KernelFile, Promise<WebAssembly.Module>>();

/**
 * Loads a file once, and again after a failure. The module may be sent to a worker.
 * @throws VGGNetError `BACKEND_UNAVAILABLE` if the kernels can't be compiled
 */
export function compileKernels(file: KernelFile): Promise<WebAssembly.Module> {
  let module = modules.get(file);
  if (!module) {
    module = loadKernels(file);
    // A failed download can be retried.
    module.catch(() => modules.delete(file));
    modules.set(file, module);
  }
  return module;
}
