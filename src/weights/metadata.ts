import { messageOf, VGGNetError } from '../errors.js';
import { type ImagePreset, presetChannels, validatePreset } from '../image/preset.js';
import { resolveConfig } from '../model/config.js';
import { type Architecture, MODEL_NAMES, type ModelOptions, type VGGConfig } from '../vgg.js';
import { quoteName } from './safetensors/header.js';

/** The key of a safetensors file's metadata under which a model's description is. */
export const CONFIG_KEY = 'vggnet';
/** The key under which it says how low-precision weights are stored (quantize/open.ts). */
export const PRECISION_KEY = 'vggnet.precision';

const MAX_NAME_LENGTH = 200;

/** A network's description as a JSON string, to be put into a file's metadata under `CONFIG_KEY`. */
export function encodeConfig(config: VGGConfig): string {
  const { name, architecture, batchNorm, inChannels, numClasses, hiddenFeatures, poolSize, dropout } = config;
  return JSON.stringify({
    name,
    architecture,
    batchNorm,
    inChannels,
    numClasses,
    hiddenFeatures,
    poolSize,
    dropout,
    ...(config.labels && { labels: config.labels }),
    ...(config.preset && { preset: config.preset }),
  });
}

/**
 * Reads what `encodeConfig` wrote, and checks all of it. Keys that are not known are passed over.
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` that says what is wrong; `cause` is the error of `resolveConfig` or
 * `validatePreset`, if it was one
 */
export function decodeConfig(text: string): VGGConfig {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch (cause) {
    throw new VGGNetError('INVALID_WEIGHTS_FILE', 'The model description is not JSON', { cause });
  }
  const fields = asObject(parsed, 'the model description');
  const name = fields.name;
  if (typeof name !== 'string' || name === '' || name.length > MAX_NAME_LENGTH) {
    fail(`name must be a string of 1 to ${MAX_NAME_LENGTH} characters`, name);
  }
  const options: Required<ModelOptions> = {
    inChannels: numberOf(fields, 'inChannels'),
    numClasses: numberOf(fields, 'numClasses'),
    hiddenFeatures: numberOf(fields, 'hiddenFeatures'),
    poolSize: numberOf(fields, 'poolSize'),
    dropout: numberOf(fields, 'dropout'),
    batchNorm:
      typeof fields.batchNorm === 'boolean'
        ? fields.batchNorm
        : fail('batchNorm must be true or false', fields.batchNorm),
  };
  // A string would be looked up as a model's name.
  if (!Array.isArray(fields.architecture)) fail("architecture must be a list such as [64, 'M']", fields.architecture);
  const config = checked(() => resolveConfig(fields.architecture as Architecture, options));
  return {
    ...config,
    name: name as string,
    ...(fields.labels !== undefined && { labels: readLabels(fields.labels, config.numClasses) }),
    ...(fields.preset !== undefined && { preset: readPreset(fields.preset, config.inChannels) }),
  };
}

function readLabels(value: unknown, numClasses: number): readonly string[] {
  if (!Array.isArray(value) || !value.every((label) => typeof label === 'string')) {
    return fail('labels must be a list of strings', value);
  }
  if (value.length !== numClasses) fail(`labels must be ${numClasses}, one a class`, value.length);
  return Object.freeze(value);
}

function readPreset(value: unknown, inChannels: number): ImagePreset {
  const preset = value as ImagePreset;
  checked(() => validatePreset(preset));
  const { mode, resize, crop, scale, mean, std } = preset;
  if (presetChannels(preset) !== inChannels) fail(`preset.mode must have ${inChannels} channels as the network`, mode);
  return { mode, resize, crop, scale, mean, std };
}

/** Runs a check whose error is then the file's and not the caller's. */
function checked<T>(check: () => T): T {
  try {
    return check();
  } catch (cause) {
    const reason = messageOf(cause);
    throw new VGGNetError('INVALID_WEIGHTS_FILE', `The model description is wrong: ${reason}`, { cause });
  }
}

function numberOf(fields: Readonly<Record<string, unknown>>, key: string): number {
  const value = fields[key];
  return typeof value === 'number' ? value : fail(`${key} must be a number`, value);
}

function asObject(value: unknown, what: string): Readonly<Record<string, unknown>> {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return fail(`${what} must be an object`, value);
  return value as Record<string, unknown>;
}

function fail(expected: string, got: unknown): never {
  throw new VGGNetError(
    'INVALID_WEIGHTS_FILE',
    `The model description is wrong: ${expected}, got ${quoteName(JSON.stringify(got) ?? 'nothing')}`,
  );
}

/** The name of the known network with these layers, if there is one. */
export function knownName(architecture: Architecture, batchNorm: boolean): string | undefined {
  return MODEL_NAMES.find((name) => {
    const known = resolveConfig(name);
    return known.batchNorm === batchNorm && known.architecture.join() === architecture.join();
  });
}
