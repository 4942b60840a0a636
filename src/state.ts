import type { Executable } from './backend.js';
import type { VGGConfig } from './config.js';
import { type Layer, parametersOf } from './layers.js';
import { Tensor } from './tensor.js';
import { CONFIG_KEY, encodeConfig } from './weights/metadata.js';
import { checkScheme, type NamingScheme, rename, renamedShape } from './weights/naming.js';
import { type SaveOptions, writeSafetensors } from './weights/write.js';

/* What a model has learned, on its way out. */

/** A tensor of a model's state, by the name that a scheme gives it. */
export interface StateEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly read: () => Promise<Float32Array>;
}

/** @throws VGGNetError `INVALID_ARGUMENT` for an unknown scheme */
export function stateEntries(
  layers: readonly Layer[],
  executable: Executable,
  poolSize: number,
  naming: NamingScheme = 'torchvision',
): StateEntry[] {
  checkScheme(naming);
  return layers.flatMap(parametersOf).map(({ name, shape }) => ({
    name: rename(name, naming),
    shape: renamedShape(name, shape, naming, poolSize),
    read: () => executable.readParameter(name),
  }));
}

export async function readState(entries: readonly StateEntry[]): Promise<Map<string, Tensor>> {
  const state = new Map<string, Tensor>();
  for (const { name, shape, read } of entries) state.set(name, new Tensor(await read(), shape));
  return state;
}

/** A state as a safetensors file with the network's description. */
export function saveState(
  entries: readonly StateEntry[],
  config: VGGConfig,
  options: SaveOptions,
): ReadableStream<Uint8Array> {
  const byName = new Map(entries.map((entry) => [entry.name, entry]));
  const read = (name: string): Promise<Float32Array> => (byName.get(name) as StateEntry).read();
  const metadata = { format: 'pt', ...options.metadata, [CONFIG_KEY]: encodeConfig(config) };
  return writeSafetensors(entries, read, { ...options, metadata });
}
