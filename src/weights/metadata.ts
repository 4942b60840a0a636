import { type Architecture, MODEL_NAMES, type ModelOptions, resolveConfig, type VGGConfig } from '../config.js';
import { VGGNetError } from '../errors.js';
import type { ImagePreset } from '../image/preset.js';
import { quoteName } from './header.js';

/** The key of a safetensors file's metadata under which a model's description is. */
export const CONFIG_KEY = 'vggnet';

const MAX_NAME_LENGTH = 200;
const MAX_IMAGE_SIDE = 65_536;

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
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` that says what is wrong; `cause` is the error of `resolveConfig`, if it
 * was one
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
  let config: VGGConfig;
  try {
    config = resolveConfig(fields.architecture as Architecture, options);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new VGGNetError('INVALID_WEIGHTS_FILE', `The model description is wrong: ${reason}`, { cause });
  }
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
  const { mode, resize, crop, scale, mean, std } = asObject(value, 'preset');
  if (mode !== 'RGB' && mode !== 'BGR' && mode !== 'L') return fail("preset.mode must be 'RGB', 'BGR' or 'L'", mode);
  const channels = mode === 'L' ? 1 : 3;
  if (channels !== inChannels) fail(`preset.mode must have ${inChannels} channels as the network`, mode);
  if (!isSide(resize)) return fail(`preset.resize must be null or an integer from 1 to ${MAX_IMAGE_SIDE}`, resize);
  if (!isSide(crop)) return fail(`preset.crop must be null or an integer from 1 to ${MAX_IMAGE_SIDE}`, crop);
  if (!isFiniteNumber(scale) || scale === 0) return fail('preset.scale must be a finite number that is not 0', scale);
  if (!isNumberList(mean, channels)) return fail(`preset.mean must be ${channels} finite numbers`, mean);
  if (!isNumberList(std, channels) || std.includes(0)) {
    return fail(`preset.std must be ${channels} finite numbers that are not 0`, std);
  }
  return { mode, resize, crop, scale, mean, std };
}

function isSide(value: unknown): value is number | null {
  return value === null || (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= MAX_IMAGE_SIDE);
}

function isFiniteNumber(value: unknown): value is number {
  return Number.isFinite(value);
}

function isNumberList(value: unknown, length: number): value is number[] {
  return Array.isArray(value) && value.length === length && value.every(isFiniteNumber);
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
