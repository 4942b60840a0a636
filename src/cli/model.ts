import { existsSync } from 'node:fs';
import { resolveConfig } from '../model/config.js';
import { configOf, withStored } from '../model/load.js';
import type { DeviceName, PrecisionOption } from '../model/options.js';
import { VGGNet } from '../model.js';
import { nearest } from '../nearest.js';
import type { Layer } from '../program/layers.js';
import { type Architecture, createLayers, MODEL_NAMES, type VGGConfig } from '../vgg.js';
import type { InitScheme } from '../weights/init.js';
import { openWeights } from '../weights/open.js';
import { checkUsage, UsageError } from './failure.js';
import { packageFile } from './package.js';
import { withProgress } from './progress.js';

/** A network of known layers, whose weights are elsewhere; one with its official weights; or a file that describes itself. */
export type ModelChoice =
  | {
      readonly kind: 'network';
      readonly label: string;
      readonly model: string | Architecture;
      readonly config: VGGConfig;
      readonly weights?: string;
    }
  | { readonly kind: 'pretrained'; readonly label: string; readonly config: VGGConfig; readonly from: PretrainedPlace }
  | { readonly kind: 'file'; readonly label: string; readonly file: string | URL };

/** Where official weights come from and are kept. */
export interface PretrainedPlace {
  readonly cacheDir?: string | undefined;
  readonly baseUrl?: string | undefined;
}

const EMBEDDED = 'glyphs';

/**
 * Reads MODEL: a name, a list such as `64,M,128,M`, or a file.
 * @throws UsageError `UNKNOWN_MODEL` with the nearest names, `INVALID_ARCHITECTURE`
 */
export function parseModel(text: string): ModelChoice {
  const name = text.toLowerCase();
  if (name === EMBEDDED) return embedded();
  if (MODEL_NAMES.some((known) => known === name)) return network(name);
  if (isFile(text)) return { kind: 'file', label: text, file: text };
  const list = parseList(text);
  if (list) return network(list);
  const names = [...MODEL_NAMES, EMBEDDED];
  throw new UsageError(
    `Unknown model '${text}', and there is no such file; nearest: ${nearest(name, names).join(', ')}. ` +
      `Known: ${names.join(', ')}, a list such as 64,M,128,M, or a weights file`,
    'UNKNOWN_MODEL',
  );
}

/**
 * The model that `--model` and `--weights` name together; without either the embedded one.
 * @throws UsageError
 */
export function chooseModel({ model, weights }: { model?: string; weights?: string }): ModelChoice {
  if (model === undefined) return weights === undefined ? embedded() : fileChoice(weights);
  const choice = parseModel(model);
  if (weights === undefined) return choice;
  if (choice.kind === 'network') return { ...choice, weights };
  if (model.toLowerCase() === EMBEDDED) return fileChoice(weights);
  throw new UsageError(`The file '${model}' brings its own weights; leave out --weights, or name a network by --model`);
}

/**
 * The same with weights: a network by name without a file gets its official ones, as random weights would answer nonsense.
 * @throws UsageError for a list without a file
 */
export function withWeights(choice: ModelChoice, { cacheDir, baseUrl }: PretrainedPlace): ModelChoice {
  if (choice.kind !== 'network' || choice.weights !== undefined) return choice;
  const { model, label, config } = choice;
  if (typeof model === 'string') return { kind: 'pretrained', label, config, from: { cacheDir, baseUrl } };
  throw new UsageError(
    `There are no official weights of ${label}: give a file of them by --weights FILE|URL, with torchvision's, timm's or ` +
      "the lesson's names. Without --model and --weights the embedded model glyphs reads printed characters",
  );
}

function embedded(): ModelChoice {
  return { kind: 'file', label: EMBEDDED, file: packageFile('models/glyphs.safetensors') };
}

function fileChoice(file: string): ModelChoice {
  return { kind: 'file', label: file, file };
}

function network(model: string | Architecture): ModelChoice {
  const config = checkUsage(() => resolveConfig(model));
  return { kind: 'network', label: config.name, model, config };
}

const URL_SCHEME = /^[a-z][a-z0-9+.-]+:/i;

function isFile(text: string): boolean {
  return URL_SCHEME.test(text) || /[/\\]|\.(?:safetensors|pth?|onnx|npz)$/i.test(text) || existsSync(text);
}

/** The entries of a list, not checked yet; undefined if it does not look like one. */
function parseList(text: string): Architecture | undefined {
  const parts = text
    .replace(/^\s*\[|\]\s*$/g, '')
    .split(',')
    .map((part) => part.trim());
  const isEntry = (part: string): boolean => /^(?:m|[-+]?[\d.]+)$/i.test(part);
  if (parts.length === 1 && !isEntry(parts[0] as string)) return undefined;
  return parts.map((part) => (/^m$/i.test(part) ? 'M' : isEntry(part) ? Number(part) : part)) as Architecture;
}

/**
 * What is known of a network before its weights are read: of a file, only the header is read.
 * @throws VGGNetError as `VGGNet.load`
 */
export async function describeModel(
  choice: ModelChoice,
  signal: AbortSignal,
): Promise<{ config: VGGConfig; layers: readonly Layer[] }> {
  if (choice.kind !== 'file') return { config: choice.config, layers: createLayers(choice.config) };
  const source = await openWeights(choice.file, { signal });
  try {
    const config = await configOf(source, {});
    return { config, layers: withStored(createLayers(config), source) };
  } finally {
    await source.close();
  }
}

/** True if reading the header means asking a server. */
export function isRemote(choice: ModelChoice): boolean {
  return choice.kind === 'file' && typeof choice.file === 'string' && /^https?:/i.test(choice.file);
}

export interface ModelLoadOptions {
  readonly device: DeviceName;
  readonly threads?: number | undefined;
  readonly memoryLimit?: number | undefined;
  readonly seed?: number | undefined;
  readonly init?: InitScheme | undefined;
  readonly precision?: PrecisionOption | undefined;
  readonly inputRanges?: Readonly<Record<string, number>> | undefined;
  readonly signal: AbortSignal;
}

/** Makes the model, with a progress bar. The caller disposes of it. */
export async function loadModel(
  choice: ModelChoice,
  options: ModelLoadOptions,
): Promise<{ model: VGGNet; loadMs: number }> {
  const start = performance.now();
  const model = await withProgress(choice.label, (onProgress) => {
    const all = { ...options, onProgress };
    if (choice.kind === 'file') return VGGNet.load(choice.file, all);
    if (choice.kind === 'pretrained') return VGGNet.fromPretrained(choice.label, { ...all, ...choice.from });
    return VGGNet.create(choice.model, { ...all, weights: choice.weights });
  });
  return { model, loadMs: performance.now() - start };
}
