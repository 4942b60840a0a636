import { isWeighted, type Layer, parametersOf } from '../program/layers.js';
import { Tensor } from '../tensor.js';
import type { VGGConfig } from '../vgg.js';
import { CONFIG_KEY, encodeConfig, PRECISION_KEY } from '../weights/metadata.js';
import { checkScheme, type NamingScheme, rename, renamedShape } from '../weights/naming.js';
import { type RecipeEntry, storedTensors } from '../weights/quantize/metadata.js';
import type { StoredPrecision } from '../weights/source.js';
import { type SaveOptions, type WriteEntry, type WriteValues, writeSafetensors } from '../weights/write.js';
import type { Network } from './network.js';

/** A tensor of a model's state, by the name that a scheme gives it. */
export interface StateEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly read: () => Promise<Float32Array>;
  /** Set for weights. */
  readonly stored?: StoredPrecision | undefined;
}

/** @throws VGGNetError `DISPOSED`; `INVALID_ARGUMENT` for an unknown scheme */
export function stateEntries(network: Network, naming: NamingScheme = 'torchvision'): StateEntry[] {
  const { layers, executable, config } = network;
  checkScheme(naming);
  return layers.flatMap((layer) =>
    parametersOf(layer).map(({ name, shape }) => ({
      name: rename(name, naming),
      shape: renamedShape(name, shape, naming, config.poolSize),
      read: () => executable.readParameter(name),
      stored: name === `${layer.path}.weight` ? storedOf(layer) : undefined,
    })),
  );
}

export async function readState(entries: readonly StateEntry[]): Promise<Map<string, Tensor>> {
  const state = new Map<string, Tensor>();
  for (const { name, shape, read } of entries) state.set(name, new Tensor(await read(), shape));
  return state;
}

function storedOf(layer: Layer): StoredPrecision | undefined {
  if (!isWeighted(layer)) return undefined;
  const { precision = 'fp32' } = layer;
  if (precision === 'fp32') return undefined;
  return layer.op === 'conv2d' ? { precision, inputRange: layer.inputRange } : { precision };
}

/** A state as a safetensors file with the network's description; weights in low precision stay so. */
export function saveState(
  entries: readonly StateEntry[],
  config: VGGConfig,
  options: SaveOptions,
): ReadableStream<Uint8Array> {
  const tensors = entries.flatMap(fileTensors);
  const byName = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const recipe: Record<string, RecipeEntry> = {};
  for (const { name, shape, stored } of entries) {
    if (stored) recipe[name] = { ...stored, shape } as RecipeEntry;
  }
  const metadata = {
    format: 'pt',
    ...options.metadata,
    [CONFIG_KEY]: encodeConfig(config),
    ...(Object.keys(recipe).length > 0 && { [PRECISION_KEY]: JSON.stringify(recipe) }),
  };
  return writeSafetensors(tensors, (name) => (byName.get(name) as FileTensor).read(), { ...options, metadata });
}

interface FileTensor extends WriteEntry {
  readonly read: () => Promise<WriteValues>;
}

/** What a value of the state is in the file. */
function fileTensors({ name, shape, read, stored }: StateEntry): FileTensor[] {
  const precision = stored?.precision ?? 'fp32';
  if (precision === 'fp32') return [{ name, shape, read }];
  if (precision === 'fp16') return [{ name, shape, read, dtype: 'F16' }];
  // On demand: few models are saved so.
  const pack = async (): Promise<typeof import('../weights/quantize/write.js')> =>
    import('../weights/quantize/write.js');
  return storedTensors(name, shape, precision).map((tensor) => ({
    ...tensor,
    read: async () => (await pack())[tensor.name === name ? 'packWeight' : 'scalesOf'](await read(), shape, precision),
  }));
}
