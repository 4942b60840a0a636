import type { Backend, Executable, ParameterStream } from '../backend.js';
import { throwIfAborted, VGGNetError } from '../errors.js';
import { defaultPreset, type ImagePreset, presetChannels, validatePreset } from '../image/preset.js';
import { isWeighted, type Layer } from '../program/layers.js';
import { leastSide } from '../program/shape.js';
import type { LoadProgress } from '../weights/bytes/progress.js';
import type { InitScheme } from '../weights/init.js';
import { completeStream, matchWeights } from '../weights/match.js';
import { CONFIG_KEY, decodeConfig } from '../weights/metadata.js';
import { recogniseNaming, toCanonical } from '../weights/naming.js';
import type { Reopen } from '../weights/reopen.js';
import type { StoredPrecision, WeightSource } from '../weights/source.js';
import { type ModelOptions, resolveConfig, type VGGConfig } from './config.js';

export interface LoadOptions {
  /** Refuse a file that lacks a tensor, has one too many, or has one of another shape. Default true. */
  strict?: boolean | undefined;
  /** Where parameters that no file gives come from. Default 'pytorch', the constructors' own, as in the lesson. */
  init?: InitScheme | undefined;
  /** Seeds the initialisation, and dropout: an integer from 0 to 2^32 − 1. Default 0. */
  seed?: number | undefined;
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/** How images become the network's input, and what its classes are called. */
export interface ImageOptions {
  /** Class names, one for each class. Default: the file's, or ImageNet's for 1000 classes. */
  labels?: readonly string[] | undefined;
  /** Default: the file's, or torchvision's. */
  preset?: ImagePreset | undefined;
}

/** What a file and a network did not share, as PyTorch's `load_state_dict` reports it. Both are empty if strict. */
export interface IncompatibleKeys {
  /** Parameters initialised from the seed: the file lacks them, or has the last layer for other classes. */
  readonly missingKeys: readonly string[];
  /** Tensors of the file that were passed over. */
  readonly unexpectedKeys: readonly string[];
}

export interface Loaded {
  readonly executable: Executable;
  readonly keys: IncompatibleKeys;
}

/**
 * The layers with the precisions that a file has them in.
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` for a convolution in int4
 */
export function withStored(layers: readonly Layer[], source: WeightSource | undefined): readonly Layer[] {
  const stored = storedByPath(source);
  if (stored.size === 0) return layers;
  return layers.map((layer) => {
    const found = stored.get(layer.path);
    if (!found || !isWeighted(layer)) return layer;
    const { precision, inputRange } = found;
    if (layer.op === 'linear') return { ...layer, precision };
    if (precision === 'int4') {
      throw new VGGNetError('INVALID_WEIGHTS_FILE', `${layer.name}: a convolution's weights can't be int4`);
    }
    return { ...layer, precision, ...(inputRange && { inputRange }) };
  });
}

function storedByPath(source: WeightSource | undefined): Map<string, StoredPrecision> {
  const naming = source?.stored && recogniseNaming(source.entries.map(({ name }) => name));
  if (!naming) return new Map();
  return new Map(
    [...(source?.stored ?? [])].map(([name, one]) => [(toCanonical(name, naming) ?? '').replace(/\.weight$/, ''), one]),
  );
}

/** The configuration that a weights file describes by its metadata, or by the names and shapes of its tensors. */
export async function configOf(source: WeightSource, options: ModelOptions): Promise<VGGConfig> {
  const text = source.metadata[CONFIG_KEY];
  const described = text === undefined ? await inferred(source) : decodeConfig(text);
  const given = Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
  const config = resolveConfig(described.architecture, { ...described, ...given });
  return { ...config, name: described.name, labels: described.labels, preset: described.preset };
}

async function inferred({ entries }: WeightSource): Promise<VGGConfig> {
  const { inferConfig } = await import('../weights/infer.js');
  return inferConfig(entries);
}

/** A configuration with labels and preset: the caller's, else its own if they still fit, else the defaults. */
export function withImageOptions(config: VGGConfig, { labels, preset }: ImageOptions): VGGConfig {
  const { numClasses, inChannels } = config;
  if (labels && !(Array.isArray(labels) && labels.length === numClasses && labels.every(isString))) {
    const got = Array.isArray(labels)
      ? `a list of ${labels.length} ${labels.every(isString) ? 'strings' : 'values'}`
      : typeof labels;
    throw new VGGNetError('INVALID_ARGUMENT', `labels must be a list of ${numClasses} strings, got ${got}`);
  }
  if (preset) {
    validatePreset(preset);
    if (presetChannels(preset) !== inChannels) {
      throw new VGGNetError(
        'INVALID_ARGUMENT',
        `The preset makes ${presetChannels(preset)} channels (mode '${preset.mode}'), and the network takes ${inChannels}`,
      );
    }
  }
  const own = config.preset && presetChannels(config.preset) === inChannels ? config.preset : undefined;
  return {
    ...config,
    labels: labels ?? (config.labels?.length === numClasses ? config.labels : undefined),
    preset: preset ?? own ?? defaultPreset(inChannels),
  };
}

function isString(value: unknown): boolean {
  return typeof value === 'string';
}

/**
 * Compiles a network with the weights of a source, or without one with random weights. Closes the source.
 * @param reopen opens the source once more, where that is possible
 * @throws VGGNetError `WEIGHTS_MISMATCH`, `INVALID_DTYPE`, `INVALID_WEIGHTS_FILE`, `OUT_OF_MEMORY`, `ABORTED`;
 * nothing stays open or allocated then
 */
export async function compileModel(
  backend: Backend,
  config: VGGConfig,
  layers: readonly Layer[],
  source: WeightSource | undefined,
  options: LoadOptions,
  reopen?: Reopen,
): Promise<Loaded> {
  async function* again(): ParameterStream {
    const anew = await reopen?.();
    try {
      yield* (await openParameters(backend, config, layers, anew, { ...options, signal: undefined })).stream;
    } finally {
      await anew?.close();
    }
  }
  try {
    const { stream, keys } = await openParameters(backend, config, layers, source, options);
    const { signal } = options;
    const once = source !== undefined && reopen === undefined;
    const executable = await backend.compile({ layers, inputShape: usualShape(config, layers) }, stream, {
      signal,
      reopen: once ? undefined : again,
    });
    return { executable, keys };
  } finally {
    await source?.close();
  }
}

/** One image of the preset's size, or of the least size that the pools allow. */
export function usualShape(config: VGGConfig, layers: readonly Layer[]): number[] {
  const side = Math.max(config.preset?.crop ?? 224, leastSide(layers));
  return [1, config.inChannels, side, side];
}

async function openParameters(
  backend: Backend,
  config: VGGConfig,
  layers: readonly Layer[],
  source: WeightSource | undefined,
  { strict = true, init = 'pytorch', seed = 0, signal }: LoadOptions,
): Promise<{ stream: ParameterStream; keys: IncompatibleKeys }> {
  throwIfAborted(signal);
  // On demand: a complete file needs no initial values.
  const random = async (only?: ReadonlySet<string>): Promise<WeightSource> => {
    const { initSource } = await import('../weights/init.js');
    return initSource(config, { init, seed, only });
  };
  if (!source) {
    const initial = await random();
    const all = new Set(initial.entries.map((entry) => entry.name));
    const stream = await rounded(initial.chunks(all, signal), layers, backend);
    return { stream, keys: { missingKeys: [], unexpectedKeys: [] } };
  }
  const match = matchWeights(source, layers, { strict });
  const missingKeys = [...match.missing, ...match.replaced];
  const only = new Set(missingKeys);
  const fill = missingKeys.length > 0 ? await random(only) : undefined;
  const stream = await rounded(completeStream(match, fill, signal), layers, backend, storedByPath(source));
  return { stream, keys: { missingKeys, unexpectedKeys: match.unexpected } };
}

/** The stream with weights rounded to their layers' precision, where neither the file nor the backend has done so. */
async function rounded(
  stream: ParameterStream,
  layers: readonly Layer[],
  { roundsWeights = [] }: Backend,
  stored: ReadonlyMap<string, StoredPrecision> = new Map(),
): Promise<ParameterStream> {
  const open = layers.filter((layer) => {
    if (!isWeighted(layer)) return false;
    const { precision = 'fp32' } = layer;
    return (
      precision !== 'fp32' && precision !== stored.get(layer.path)?.precision && !roundsWeights.includes(precision)
    );
  });
  if (open.length === 0) return stream;
  const { roundedStream } = await import('../weights/quantize/stream.js');
  return roundedStream(stream, open);
}
