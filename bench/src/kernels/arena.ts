import { type StructValues, writeStruct } from '../../../src/wasm/plan/args.js';
import { ARGUMENT_BYTES } from '../../../src/wasm/plan/memory.js';

/** The exports of a kernel build: functions, and constants as globals. */
export type Exports = Record<string, WebAssembly.Global & ((...args: number[]) => number)>;

/** One instance of a kernel build over a memory of its own, from which buffers are taken and never given back. */
export class Arena {
  readonly kernels: Exports;
  readonly #memory: WebAssembly.Memory;
  #next = 1024;

  private constructor(kernels: Exports, memory: WebAssembly.Memory) {
    this.kernels = kernels;
    this.#memory = memory;
  }

  static async create(module: WebAssembly.Module): Promise<Arena> {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 65_536 });
    const abort = (): never => {
      throw new Error('A kernel aborted');
    };
    const { exports } = await WebAssembly.instantiate(module, { env: { memory, abort } });
    return new Arena(exports as Exports, memory);
  }

  constant(name: string): number {
    return (this.kernels[name] as WebAssembly.Global).value as number;
  }

  /** The address of `bytes` zeros, on a cache line. */
  bytes(bytes: number): number {
    const address = this.#next;
    this.#next = Math.ceil((address + bytes) / 64) * 64;
    const pages = Math.ceil(this.#next / 65_536) - this.#memory.buffer.byteLength / 65_536;
    if (pages > 0) this.#memory.grow(pages);
    return address;
  }

  zeros(values: number): number {
    return this.bytes(4 * values);
  }

  /** Values from −1 to 1, the same in every run. Writing them also takes the pages into memory. */
  random(values: number, scale = 1): number {
    const address = this.zeros(values);
    const into = this.f32.subarray(address / 4, address / 4 + values);
    let state = 1;
    for (let i = 0; i < values; i++) {
      state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
      into[i] = (state / 2 ** 31 - 1) * scale;
    }
    return address;
  }

  /** An image in the kernels' padded NHWC, with zeros in the border. */
  image(height: number, width: number, stride: number): number {
    const address = this.random((height + 2) * (width + 2) * stride);
    this.f32.fill(0, address / 4, address / 4 + (width + 2) * stride);
    this.f32.fill(
      0,
      address / 4 + (height + 1) * (width + 2) * stride,
      address / 4 + (height + 2) * (width + 2) * stride,
    );
    for (let y = 1; y <= height; y++) {
      const row = address / 4 + y * (width + 2) * stride;
      this.f32.fill(0, row, row + stride);
      this.f32.fill(0, row + (width + 1) * stride, row + (width + 2) * stride);
    }
    return address;
  }

  /** A call of an operation on this thread alone, by the name of its constant (`CONV2D`), with its argument struct. */
  operation<Description extends string>(
    name: string,
    descriptions: readonly Description[],
    values: StructValues<Description>,
  ): () => void {
    const number = this.constant(name);
    const control = this.bytes(this.constant('CONTROL'));
    const args = this.struct(descriptions, values);
    const { parallel } = this.kernels;
    return () => void parallel?.(number, args, control, 1);
  }

  /** The address of an argument struct. */
  struct<Description extends string>(descriptions: readonly Description[], values: StructValues<Description>): number {
    const address = this.bytes(ARGUMENT_BYTES);
    writeStruct(this.#memory, address, descriptions, values);
    return address;
  }

  /** The memory as it is now; growing replaces it. */
  get f32(): Float32Array {
    return new Float32Array(this.#memory.buffer);
  }
}
