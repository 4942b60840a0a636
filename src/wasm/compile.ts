import { messageOf, VGGNetError } from '../errors.js';

/**
 * Compiles the bytes of a kernel build.
 * @throws VGGNetError `BACKEND_UNAVAILABLE` if compilation is forbidden or fails
 */
export async function compileBytes(bytes: Uint8Array<ArrayBuffer>): Promise<WebAssembly.Module> {
  try {
    return await WebAssembly.compile(bytes);
  } catch (cause) {
    const why = messageOf(cause);
    throw new VGGNetError(
      'BACKEND_UNAVAILABLE',
      `The kernels could not be compiled (a page's Content-Security-Policy has to allow 'wasm-unsafe-eval', and an edge worker has to resolve the package by the condition 'workerd'): ${why}`,
      { cause },
    );
  }
}
