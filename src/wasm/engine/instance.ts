import type { Kernels } from '../kernels.js';

/** Instantiates the kernels over `memory`. */
export async function instantiateKernels(module: WebAssembly.Module, memory: WebAssembly.Memory): Promise<Kernels> {
  const abort = (): never => {
    throw new Error('A kernel aborted');
  };
  const sleep = (address: number, value: number): void => {
    Atomics.wait(new Int32Array(memory.buffer), address / 4, value);
  };
  const instance = await WebAssembly.instantiate(module, { env: { memory, abort, sleep } });
  return instance.exports as unknown as Kernels;
}
