import type { Backend, Executable, ParameterStream } from '../backend.js';
import { throwIfAborted, VGGNetError } from '../errors.js';
import { isWeighted, type Layer } from '../program/layers.js';
import { usualShape } from '../program/shape.js';
import type { ModelOptions, VGGConfig } from '../vgg.js';
import { completeStream, matchWeights } from '../weights/match.js';
import { CONFIG_KEY, decodeConfig } from '../weights/metadata.js';
import { namingOf, toCanonical } from '../weights/naming.js';
import type { Reopen } from '../weights/reopen.js';
import type { StoredPrecision, WeightSource } from '../weights/source.js';
import { resolveConfig } from './config.js';
import type { LoadOptions } from './options.js';

/** What a file and a network did not share, as PyTorch's `load_state_dict` reports it. Both are empty if strict. */
export interface IncompatibleKeys {
  /** Parameters initialized from the seed: the file lacks them, or has the last layer for other classes. */
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
  const naming = source?.stored && namingOf(source.entries);
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

/** What weights are loaded into. */
export interface Target {
  readonly backend: Backend;
  readonly config: VGGConfig;
  readonly layers: readonly Layer[];
  /** Which parameters get gradients, for a network that has a backward pass. */
  readonly gradients?: { readonly trained: ReadonlySet<string> } | undefined;
}

/**
 * Compiles a network with the weights of a source, which stays open, or without one with random weights.
 * @param reopen opens the source again, where that is possible
 * @throws VGGNetError `WEIGHTS_MISMATCH`, `INVALID_DTYPE`, `INVALID_WEIGHTS_FILE`, `OUT_OF_MEMORY`, `ABORTED`; nothing
 * stays allocated then
 */
export async function compileModel(
  target: Target,
  source: WeightSource | undefined,
  options: LoadOptions,
  reopen?: Reopen,
): Promise<Loaded> {
  async function* again(): ParameterStream {
    const reopened = await reopen?.();
    try {
      yield* (await openParameters(target, reopened, { ...options, signal: undefined })).stream;
    } finally {
      await reopened?.close();
    }
  }
  const { backend, config, layers, gradients } = target;
  const { stream, keys } = await openParameters(target, source, options);
  const once = source !== undefined && reopen === undefined;
  const executable = await backend.compile({ layers, inputShape: usualShape(layers, config.preset?.crop) }, stream, {
    signal: options.signal,
    gradients: gradients?.trained,
    reopen: once ? undefined : again,
  });
  return { executable, keys };
}

async function openParameters(
  target: Target,
  source: WeightSource | undefined,
  { strict = true, init = 'pytorch', seed = 0, signal }: LoadOptions,
): Promise<{ stream: ParameterStream; keys: IncompatibleKeys }> {
  throwIfAborted(signal);
  // On demand: a complete file needs no initial values.
  const random = async (only?: ReadonlySet<string>): Promise<WeightSource> => {
    const { initSource } = await import('../weights/init.js');
    return initSource(target.config, { init, seed, only });
  };
  if (!source) {
    const initial = await random();
    const all = new Set(initial.entries.map((entry) => entry.name));
    const stream = await rounded(closing(initial, initial.chunks(all, signal)), target);
    return { stream, keys: { missingKeys: [], unexpectedKeys: [] } };
  }
  const match = matchWeights(source, target.layers, { strict });
  const missingKeys = [...match.missing, ...match.replaced];
  const fill = missingKeys.length > 0 ? await random(new Set(missingKeys)) : undefined;
  const complete = completeStream(match, fill, signal);
  const stream = await rounded(fill ? closing(fill, complete) : complete, target, storedByPath(source));
  return { stream, keys: { missingKeys, unexpectedKeys: match.unexpected } };
}

/** A stream that closes a source at its end. */
async function* closing(source: WeightSource, stream: ParameterStream): ParameterStream {
  try {
    yield* stream;
  } finally {
    await source.close();
  }
}

/** The stream with weights rounded to their layers' precision, where neither the file nor the backend has done so. */
async function rounded(
  stream: ParameterStream,
  { layers, backend: { roundsWeights = [] } }: Target,
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
