import type { ParameterChunk } from '../../src/backend.js';
import type { WeightEntry, WeightSource } from '../../src/weights/source.js';

/** Joins chunks into whole tensors, and checks that each value comes once and in order. */
export async function collect(chunks: AsyncIterable<ParameterChunk>): Promise<Map<string, Float32Array>> {
  const parts = new Map<string, Float32Array[]>();
  const lengths = new Map<string, number>();
  for await (const { name, offset, data } of chunks) {
    const length = lengths.get(name) ?? 0;
    if (offset !== length) throw new Error(`${name}: a chunk at ${offset} after ${length} values`);
    lengths.set(name, length + data.length);
    // A copy: the buffer is used again for the next chunk.
    parts.set(name, [...(parts.get(name) ?? []), data.slice()]);
  }
  return new Map(
    [...parts].map(([name, list]) => {
      const whole = new Float32Array(lengths.get(name) as number);
      let offset = 0;
      for (const part of list) {
        whole.set(part, offset);
        offset += part.length;
      }
      return [name, whole];
    }),
  );
}

/** All tensors of a source. */
export function readAll(source: WeightSource): Promise<Map<string, Float32Array>> {
  return collect(source.chunks(new Set(source.entries.map((entry) => entry.name))));
}

/** A source of given shapes, each value its index; `closed` counts the calls of `close`. */
export function countingSource(entries: readonly (Omit<WeightEntry, 'dtype'> & { dtype?: string })[]): WeightSource & {
  closed: number;
} {
  return {
    entries: entries.map((entry) => ({ dtype: 'F32', ...entry })),
    metadata: {},
    closed: 0,
    async *chunks(wanted) {
      for (const { name, shape } of entries) {
        if (!wanted.has(name)) continue;
        const size = shape.reduce((a, b) => a * b, 1);
        const half = size >> 1;
        yield { name, offset: 0, data: Float32Array.from({ length: half }, (_, i) => i) };
        yield { name, offset: half, data: Float32Array.from({ length: size - half }, (_, i) => half + i) };
      }
    },
    close() {
      this.closed++;
      return Promise.resolve();
    },
  };
}
