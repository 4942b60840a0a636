import { VGGNetError } from '../../errors.js';
import { align } from '../plan/layout.js';
import { FIRST_ADDRESS, MAX_BYTES, MAX_PAGES, mib, PAGE } from '../plan/pages.js';

/**
 * The engine's linear memory: what is kept (scratch, parameters) from the bottom up, and above it one arena that
 * every forward lays out anew. WebAssembly memory never shrinks, so the arena stays as large as the largest forward.
 */
export class Heap {
  readonly memory: WebAssembly.Memory;
  #kept = FIRST_ADDRESS;
  /** Bytes that the memory must not pass. */
  readonly limit: number;
  #f32: Float32Array;
  #i32: Int32Array;

  /**
   * @param limit default the most that there can be
   * @param memory one that another heap left, laid out as this one will be
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

  /** The memory as float32; do not hold on to it, since growing replaces it. */
  get f32(): Float32Array {
    return this.#f32;
  }

  get i32(): Int32Array {
    return this.#i32;
  }

  /** Where the arena starts. */
  get arena(): number {
    return this.#kept;
  }

  /** Where a value of the arena is. */
  addressOf({ offset }: { readonly offset: number }): number {
    return this.#kept + offset;
  }

  /** Reserves bytes that stay, zeroed. All of it comes before the first `reserveArena`. */
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
