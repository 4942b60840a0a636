import { VGGNetError } from '../errors.js';
import type { VGGNet } from '../model.js';
import { layerNamed } from '../program/names.js';
import { inferShapes } from '../program/shape.js';
import { numel, type Tensor } from '../tensor.js';
import { Batcher, type RunBatch } from './batcher.js';
import { clip, quote, RequestError } from './failure.js';
import type { Loader } from './model.js';
import type { Settings } from './options.js';

/** The network's own names for those that servers use. */
const ALIASES: Readonly<Record<string, string>> = { logits: 'fc8', probabilities: 'prob' };

/** What a request asks of the network, found to be possible before anything of it waits or is computed. */
export interface Task {
  /** The layers' own names. */
  readonly layers: readonly string[];
  /** The number of values of each output. */
  readonly sizes: readonly number[];
}

/**
 * Checks what a request asks for.
 * @param names of outputs, as it has them
 * @param served names of layers that may be asked for besides the logits and the probabilities
 * @throws RequestError 400 for an output that is not served or asked for twice; VGGNetError `UNKNOWN_LAYER`, `INVALID_SHAPE`
 */
export function taskOf(
  network: VGGNet,
  shape: readonly number[],
  names: readonly string[],
  served: readonly string[],
): Task {
  const open = new Set([...Object.values(ALIASES), ...servedLayers(network, served)]);
  const indices = names.map((name) => {
    const layer = layerNamed(network.layers, clip(ALIASES[name] ?? name, 100));
    if (!open.has(layer.name)) {
      const own = Object.keys(ALIASES).join(', ');
      throw new RequestError(
        400,
        'OUTPUT_NOT_SERVED',
        `The output ${quote(name)} is not served here, but ${[own, ...served].join(', ')}; the operator may add it to \`layers\``,
      );
    }
    return network.layers.indexOf(layer);
  });
  if (new Set(indices).size < indices.length) {
    throw new RequestError(400, 'INVALID_REQUEST', 'outputs must differ from each other');
  }
  const shapes = inferShapes(network.layers.slice(0, Math.max(...indices) + 1), shape);
  return {
    layers: indices.map((index) => network.layers[index]?.name as string),
    sizes: indices.map((index) => numel(shapes[index] as number[])),
  };
}

/** @throws VGGNetError `UNKNOWN_LAYER` for a name that the operator gave */
function servedLayers(network: VGGNet, served: readonly string[]): string[] {
  return served.map((name) => layerNamed(network.layers, ALIASES[name] ?? name).name);
}

/** Runs forwards of the loaded network in batches; once more if a worker crashed. */
export function batcherOf(loader: Loader, settings: Settings, onBatch: (images: number) => void): Batcher {
  const forward: RunBatch = async (input, outputs, signal) => {
    const network = await loader.load();
    try {
      const taps = await network.features(input, outputs, { signal });
      return outputs.map((name) => taps[name] as Tensor);
    } catch (error) {
      loader.failed(network, error);
      throw error;
    }
  };
  const run: RunBatch = async (input, outputs, signal) => {
    try {
      return await forward(input, outputs, signal);
    } catch (error) {
      // Once more: who shares a forward with the crash of a worker shall not notice, and a second is no accident.
      if (error instanceof VGGNetError && error.code === 'WORKER_CRASHED') return forward(input, outputs, signal);
      // A smaller piece there is not, and coming back later is of no use.
      if (error instanceof VGGNetError && error.code === 'OUT_OF_MEMORY' && input.shape[0] === 1) {
        throw new RequestError(413, 'INPUT_TOO_LARGE', error.message);
      }
      throw error;
    }
  };
  return new Batcher(run, {
    maxBatch: settings.maxBatch,
    // Images of the size that the network is made for run in full batches.
    maxPixels: Math.max(settings.maxInputPixels, settings.maxBatch * 224 * 224),
    maxDelay: settings.maxDelay,
    // Bounded by the slots for waiting requests.
    maxQueue: Infinity,
    onBatch,
  });
}
