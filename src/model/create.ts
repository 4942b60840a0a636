import { throwIfAborted } from '../errors.js';
import { glyphsWeights } from '../platform/embedded.js';
import type { Layer } from '../program/layers.js';
import { checkSeed } from '../random.js';
import { type Architecture, createLayers, type VGGConfig } from '../vgg.js';
import type { WeightsInput } from '../weights/bytes/bytes.js';
import { openWeights } from '../weights/open.js';
import { type Reopen, reopener } from '../weights/reopen.js';
import type { WeightSource } from '../weights/source.js';
import { resolveConfig, withImageOptions } from './config.js';
import { checkDescribed } from './described.js';
import { createBackend } from './device.js';
import { compileModel, configOf, withStored } from './load.js';
import { Network } from './network.js';
import type { CreateOptions, GradientOptions, PrecisionOptions } from './options.js';
import type { Gradients } from './record.js';

/** A network by name or list, with the weights of the options or random ones. */
export async function createNetwork(model: string | Architecture, options: CreateOptions): Promise<Network> {
  const { weights } = options;
  if (typeof model === 'string' && model.toLowerCase() === 'glyphs') {
    return loadNetwork(weights ?? glyphsWeights(), options);
  }
  throwIfAborted(options.signal);
  const config = resolveConfig(model, options);
  if (weights === undefined) return (await prepare(config, options))();
  const open = (): Promise<WeightSource> => openWeights(weights, options);
  return withSource(open, async (source) => (await prepare(config, options))(source, reopener(weights, options)));
}

/** The network that a weights file describes. */
export async function loadNetwork(weights: WeightsInput, options: CreateOptions): Promise<Network> {
  throwIfAborted(options.signal);
  const open = (): Promise<WeightSource> => openWeights(weights, options);
  return withSource(open, async (source) => {
    const config = await configOf(source, options);
    checkDescribed(config, options.memoryLimit);
    return (await prepare(config, options))(source, reopener(weights, options));
  });
}

/** A network whose weights are opened after all options were found good, since opening them may be a download. */
export async function openNetwork(
  config: VGGConfig,
  layersOf: (config: VGGConfig) => Layer[],
  open: () => Promise<WeightSource>,
  options: CreateOptions,
): Promise<Network> {
  const finish = await prepare(config, options, layersOf);
  return withSource(open, (source) => finish(source, open));
}

async function withSource<T>(open: () => Promise<WeightSource>, use: (source: WeightSource) => Promise<T>): Promise<T> {
  const source = await open();
  try {
    return await use(source);
  } finally {
    await source.close();
  }
}

/**
 * Checks the options and finds the backend.
 * @returns what makes the network, with the weights of an open source or random ones
 */
async function prepare(
  base: VGGConfig,
  options: CreateOptions,
  layersOf: (config: VGGConfig) => Layer[] = createLayers,
): Promise<(source?: WeightSource, reopen?: Reopen) => Promise<Network>> {
  const config = withImageOptions(base, options);
  checkSeed(options.seed ?? 0);
  const backend = await createBackend(options);
  const plain = layersOf(config);
  const withOptions = await precisionsOf(options);
  withOptions(plain);
  return async (source, reopen) => {
    const { layers, gradients } = await gradientsOf(withOptions(withStored(plain, source)), options);
    const loaded = await compileModel({ backend, config, layers, gradients }, source, options, reopen);
    return new Network(config, backend, layers, loaded, options, gradients);
  };
}

/** The layers with their batch norms frozen, and which parameters get gradients, by code that is loaded if any are. */
async function gradientsOf(
  layers: readonly Layer[],
  options: GradientOptions,
): Promise<{ layers: readonly Layer[]; gradients?: Gradients | undefined }> {
  if (!options.gradients && !options.frozenBatchNorm) return { layers };
  const { Gradients, trainedParameters, withFrozen } = await import('./record.js');
  const trained = trainedParameters(layers, options);
  const frozen = withFrozen(layers, options);
  return { layers: frozen, gradients: trained && new Gradients(frozen, trained) };
}

/** Gives layers the precisions that the options ask for, by code that is loaded if they ask for any. */
async function precisionsOf(options: PrecisionOptions): Promise<(layers: readonly Layer[]) => readonly Layer[]> {
  if (options.precision === undefined && options.inputRanges === undefined) return (layers) => layers;
  const { withOptions } = await import('./precision.js');
  return (layers) => withOptions(layers, options);
}
