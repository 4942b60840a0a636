import { VGGNetError } from '../../errors.js';
import { align } from '../plan/layout.js';
import { FIRST_ADDRESS, MAX_BYTES, MAX_PAGES, mib, PAGE } from '../plan/pages.js';

/**
 * The engine's linear memory. Scratch and parameters fill it from the bottom up; above them lies one arena, which every
 * forward lays out for itself. WebAssembly memory never shrinks, so the arena stays as large as the largest forward.
 */
export class Heap {
  readonly memory: WebAssembly.Memory;
  #kept = FIRST_ADDRESS;
  /** Most bytes of the memory. */
  readonly limit: number;
  #f32: Float32Array;
  #i32: Int32Array;

  /**
   * @param limit default 4 GiB, the most that WebAssembly allows
   * @param memory of an earlier heap with the same layout
   */
  constructor({
    shared,
    limit = MAX_BYTES,
    memory,
  }: {
    shared: boolean;
    limit?: number | undefined;
    memory?: WebAssembly.Memory | undefined;
  }) {
    this.limit = Math.min(limit, MAX_BYTES);
    this.memory = memory ?? new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES, shared });
    this.#f32 = new Float32Array(this.memory.buffer);
    this.#i32 = new Int32Array(this.memory.buffer);
  }

  /** The memory as float32. Growing replaces the array, so do not keep it. */
  get f32(): Float32Array {
    return this.#f32;
  }

  get i32(): Int32Array {
    return this.#i32;
  }

  /** The address of the arena. */
  get arena(): number {
    return this.#kept;
  }

  /** The address of a value in the arena. */
  addressOf({ offset }: { readonly offset: number }): number {
    return this.#kept + offset;
  }

  /** Reserves zeroed bytes below the arena. Call only before the first `reserveArena`. */
  keep(bytes: number): number {
    const address = this.#kept;
    this.#grow(address + align(bytes), 'weights');
    this.#kept += align(bytes);
    return address;
  }

  /** Makes the arena at least `bytes` large. */
  reserveArena(bytes: number): void {
    this.#grow(this.#kept + bytes, 'activations');
  }

  #grow(end: number, what: string): void {
    const have = this.memory.buffer.byteLength;
    if (end <= have) return;
    const fail = (cause?: unknown): never => {
      throw new VGGNetError(
        'OUT_OF_MEMORY',
        `The ${what} need a WebAssembly memory of ${mib(end)}; it has ${mib(have)} and could not grow (limit ${mib(this.limit)})`,
        { cause },
      );
    };
    const pages = Math.ceil(end / PAGE);
    if (pages * PAGE > this.limit) fail();
    try {
      this.memory.grow(pages - have / PAGE);
    } catch (cause) {
      fail(cause);
    }
    this.#f32 = new Float32Array(this.memory.buffer);
    this.#i32 = new Int32Array(this.memory.buffer);
  }
}
