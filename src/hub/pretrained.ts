import { validatePreset } from '../image/preset.js';
import { resolveConfig, withImageOptions } from '../model/config.js';
import type { CreateOptions } from '../model/options.js';
import type { Layer } from '../program/layers.js';
import { createConvLayers, createLayers, type VGGConfig } from '../vgg.js';
import type { LoadProgress } from '../weights/bytes/progress.js';
import { openWeights } from '../weights/open.js';
import type { WeightSource } from '../weights/source.js';
import type { PretrainedFormat, PretrainedSet } from './catalog.js';
import { choosePretrainedFile, findPretrained } from './select.js';
import { type FetchOptions, fetchWeights } from './weights.js';

/** How far a set of official weights has come. With a full cache there is no 'download'. */
export interface PretrainedProgress extends LoadProgress {
  readonly stage: 'download' | 'load';
}

export interface PretrainedOptions
  extends Omit<CreateOptions, 'weights' | 'onProgress'>,
    Pick<FetchOptions, 'cacheDir' | 'baseUrl'> {
  /** Which of a set's files to read. Default: the first of its record. */
  format?: PretrainedFormat | undefined;
  /** Tries after one that failed; a try that brought a mebibyte does not count. 0 to 100, default 4. */
  retries?: number | undefined;
  /** Milliseconds without bytes after which a try has failed. Default 30,000. */
  stallTimeout?: number | undefined;
  onProgress?: ((progress: PretrainedProgress) => void) | undefined;
}

/** A set of weights with all that its model needs, before anything is downloaded. */
export interface Pretrained {
  readonly config: VGGConfig;
  readonly layersOf: (config: VGGConfig) => Layer[];
  /** Downloads the weights, unless the cache has them, and opens those that the model is made of. */
  open(): Promise<WeightSource>;
  /** Reports the reading of the file. */
  readonly onLoad: ((progress: LoadProgress) => void) | undefined;
}

/**
 * Finds a set of weights, and checks the options as far as that goes without its file.
 * @throws VGGNetError `UNKNOWN_MODEL`, `INVALID_ARGUMENT`, `INVALID_ARCHITECTURE`
 */
export function describePretrained(name: string | PretrainedSet, options: PretrainedOptions): Pretrained {
  const set = typeof name === 'object' && name !== null ? name : findPretrained(name);
  const file = choosePretrainedFile(set, options.format);
  validatePreset(set.preset);
  const { onProgress } = options;
  const at = (stage: PretrainedProgress['stage']): ((progress: LoadProgress) => void) | undefined =>
    onProgress && ((progress) => onProgress({ ...progress, stage }));
  return {
    config: withImageOptions({ ...resolveConfig(set.model, options), preset: set.preset }, options),
    layersOf: set.classifier ? createLayers : featureLayers,
    async open() {
      const weights = await fetchWeights(file, { ...options, onProgress: at('download') });
      const source = await openWeights(weights, { ...options, onProgress: at('load') });
      return set.classifier ? source : withoutClassifier(source);
    },
    onLoad: at('load'),
  };
}

/** The layers up to the last max-pool: what torchvision calls `model.features`. */
function featureLayers({ architecture, inChannels, batchNorm }: VGGConfig): Layer[] {
  return createConvLayers(architecture, inChannels, batchNorm);
}

/** A file that has numbers for the classifier only so that a whole network can be made of it. */
function withoutClassifier(source: WeightSource): WeightSource {
  return {
    entries: source.entries.filter(({ name }) => !name.startsWith('classifier.')),
    metadata: source.metadata,
    chunks: (wanted, signal) => source.chunks(wanted, signal),
    close: () => source.close(),
  };
}
