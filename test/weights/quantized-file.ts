import { type WriteEntry, type WriteValues, writeSafetensors } from '../../src/weights/write.js';

export async function bytesOf(stream: ReadableStream<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** A file of one weight in int8 and one in int4, with something changed. */
export async function quantizedFile(
  change: {
    readonly recipe?: (recipe: Record<string, unknown>) => unknown;
    readonly tensors?: (all: Map<string, [WriteEntry, WriteValues]>) => void;
  } = {},
): Promise<Uint8Array<ArrayBuffer>> {
  const tensors = new Map<string, [WriteEntry, WriteValues]>();
  const add = (name: string, shape: number[], dtype: WriteEntry['dtype'], values: WriteValues): void => {
    tensors.set(name, [{ name, shape, dtype }, values]);
  };
  add('a.weight_scale', [2], 'F32', Float32Array.of(0.5, 2));
  add('a.weight', [2, 3], 'I8', Int8Array.of(127, -127, 0, 1, 2, 127));
  add('b.weight_scale', [2, 1], 'BF16', Float32Array.of(1, 2));
  add('b.weight', [2, 2], 'U8', Uint8Array.of(0x1f, 0x88, 0xf8, 0x88));
  change.tensors?.(tensors);
  const recipe = { 'a.weight': { precision: 'int8', shape: [2, 3] }, 'b.weight': { precision: 'int4', shape: [2, 3] } };
  const metadata = { 'vggnet.precision': JSON.stringify(change.recipe ? change.recipe(recipe) : recipe) };
  const entries = [...tensors.values()].map(([entry]) => entry);
  return bytesOf(
    writeSafetensors(entries, (name) => (tensors.get(name) as [WriteEntry, WriteValues])[1], { metadata }),
  );
}
