import type { Context } from './context.js';
import type { BufferView } from './kernel.js';
import * as USAGE from './usage.js';

/** The buffers that all forwards of an executable share: each is as large as the largest forward needs. */
export class ActivationBuffers {
  readonly #context: Context;
  readonly #buffers = new Map<string, GPUBuffer>();

  constructor(context: Context) {
    this.#context = context;
  }

  /**
   * Allocates. True if a larger buffer replaced one, so that bind groups with the old buffer are invalid.
   * @throws VGGNetError `OUT_OF_MEMORY`
   */
  async reserve(sizes: Readonly<Record<string, number>>): Promise<boolean> {
    const grow = Object.entries(sizes).filter(([name, size]) => size > (this.#buffers.get(name)?.size ?? 0));
    // Destroyed first, since the old and the new buffers together may not fit.
    const replaced = grow.filter(([name]) => this.#drop(name)).length > 0;
    const checks = grow.map(([name, size]) => {
      const label = `activations: ${name}`;
      const usage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
      const { result, checked } = this.#context.attempt(label, () => this.#context.createBuffer(label, size, usage));
      this.#buffers.set(name, result);
      return checked;
    });
    try {
      await Promise.all(checks);
    } catch (error) {
      for (const [name] of grow) this.#drop(name);
      throw error;
    }
    return replaced;
  }

  #drop(name: string): boolean {
    const buffer = this.#buffers.get(name);
    if (buffer) this.#context.destroyBuffer(buffer);
    return this.#buffers.delete(name);
  }

  /** The first bytes of a buffer. */
  view(name: string, size: number): BufferView {
    return { buffer: this.#buffers.get(name) as GPUBuffer, offset: 0, size };
  }

  destroy(): void {
    for (const name of [...this.#buffers.keys()]) this.#drop(name);
  }
}
