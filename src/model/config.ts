import { VGGNetError } from '../errors.js';
import { defaultPreset, type ImagePreset, presetChannels, validatePreset } from '../image/preset.js';
import { nearest } from '../nearest.js';
import {
  type Architecture,
  MODEL_NAMES,
  type ModelName,
  type ModelOptions,
  VGG_TYPES,
  type VGGConfig,
} from '../vgg.js';

/**
 * Resolves a model name or a list of layers, with options, into a checked configuration.
 * @throws VGGNetError `UNKNOWN_MODEL`, `INVALID_ARCHITECTURE`, `INVALID_ARGUMENT`
 */
export function resolveConfig(model: string | Architecture, options: ModelOptions = {}): VGGConfig {
  const named = typeof model === 'string' ? resolveName(model) : undefined;
  const architecture = named?.architecture ?? checkArchitecture(model);
  const config: VGGConfig = {
    name: named?.name ?? 'vgg',
    architecture,
    inChannels: options.inChannels ?? 3,
    numClasses: options.numClasses ?? 1000,
    batchNorm: options.batchNorm ?? named?.batchNorm ?? true,
    hiddenFeatures: options.hiddenFeatures ?? 4096,
    poolSize: options.poolSize ?? 7,
    dropout: options.dropout ?? 0.5,
  };
  checkOptions(config);
  return config;
}

/** Accepts torchvision's names and the lesson's (`VGG16`), in any case. */
function resolveName(model: string): { name: ModelName; architecture: Architecture; batchNorm: boolean } {
  const name = MODEL_NAMES.find((known) => known === model.toLowerCase());
  if (!name) {
    const close = nearest(model.toLowerCase(), MODEL_NAMES);
    throw new VGGNetError(
      'UNKNOWN_MODEL',
      `Unknown model '${model}'; nearest: ${close.join(', ')}. Known: ${MODEL_NAMES.join(', ')}, or a list such as [64, 'M', 128, 'M']`,
    );
  }
  const batchNorm = name.endsWith('_bn');
  const type = name.replace('_bn', '').toUpperCase() as keyof typeof VGG_TYPES;
  return { name, architecture: VGG_TYPES[type], batchNorm };
}

/** A configuration with labels and preset: the caller's, else its own if they still fit, else the defaults. */
export function withImageOptions(
  config: VGGConfig,
  { labels, preset }: { readonly labels?: readonly string[] | undefined; readonly preset?: ImagePreset | undefined },
): VGGConfig {
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

const MAX_CHANNELS = 65_536;
const MAX_LAYERS = 1_000;

function checkArchitecture(list: unknown): Architecture {
  const fail = (what: string): never => {
    throw new VGGNetError(
      'INVALID_ARCHITECTURE',
      `Expected a list of channel counts and 'M' with at least one convolution, such as [64, 'M', 128, 'M']; ${what}`,
    );
  };
  if (!Array.isArray(list)) return fail(`got ${list === null ? 'null' : typeof list}`);
  if (list.length > MAX_LAYERS) fail(`got ${list.length} entries, over the limit of ${MAX_LAYERS}`);
  for (const [i, entry] of list.entries()) {
    if (entry === 'M') continue;
    if (!Number.isInteger(entry) || entry < 1 || entry > MAX_CHANNELS) {
      fail(
        `entry ${i} is ${typeof entry === 'string' ? `'${entry}'` : String(entry)}, not 'M' or an integer from 1 to ${MAX_CHANNELS}`,
      );
    }
  }
  if (!list.some((entry) => entry !== 'M')) fail(`got ${list.length === 0 ? 'an empty list' : "only 'M'"}`);
  return Object.freeze([...list]) as Architecture;
}

function checkOptions(config: VGGConfig): void {
  const integers = { inChannels: MAX_CHANNELS, numClasses: 1_000_000, hiddenFeatures: 1_000_000, poolSize: 1024 };
  for (const [option, limit] of Object.entries(integers) as [keyof typeof integers, number][]) {
    const value = config[option];
    if (!Number.isInteger(value) || value < 1 || value > limit) {
      throw new VGGNetError(
        'INVALID_ARGUMENT',
        `${option} must be an integer from 1 to ${limit}, got ${String(value)}`,
      );
    }
  }
  if (typeof config.dropout !== 'number' || !(config.dropout >= 0 && config.dropout <= 1)) {
    throw new VGGNetError('INVALID_ARGUMENT', `dropout must be a number from 0 to 1, got ${String(config.dropout)}`);
  }
  if (typeof config.batchNorm !== 'boolean') {
    throw new VGGNetError('INVALID_ARGUMENT', `batchNorm must be true or false, got ${String(config.batchNorm)}`);
  }
}
