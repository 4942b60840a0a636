import type { ParameterChunk, ParameterStream } from '../backend.js';
import { VGGNetError } from '../errors.js';
import { type Layer, type ParameterSpec, parametersOf } from '../program/layers.js';
import { formatShape, numel } from '../tensor.js';
import { isBatchCount } from './dtype.js';
import { type Naming, namingOf, toCanonical } from './naming.js';
import { quoteName } from './safetensors/header.js';
import { checkDtype, type WeightEntry, type WeightSource } from './source.js';

export interface MatchOptions {
  /** Refuse a file that lacks a tensor of the network or has one too many. Default true. */
  readonly strict?: boolean | undefined;
  /** Let a last layer for another number of classes be left out of the file's. Default: the opposite of `strict`. */
  readonly newHead?: boolean | undefined;
}

/** A file's tensors found in a network. All names are torchvision's but those in `unexpected`. */
export interface WeightsMatch {
  readonly naming: Naming;
  /** Parameters that the file lacks. Empty if strict. */
  readonly missing: readonly string[];
  /** The file's names of tensors that the network does not have. Empty if strict. */
  readonly unexpected: readonly string[];
  /** Parameters of the last layer that the file has for another number of classes. */
  readonly replaced: readonly string[];
  /** Every parameter of the network, by name. */
  readonly parameters: ReadonlyMap<string, ParameterSpec>;
  /** The values of all but `missing` and `replaced`. Can be called once, while the source is open. */
  stream(signal?: AbortSignal): ParameterStream;
}

const HEAD = 'classifier.6';

/** Differences that a message lists before it only counts them. */
const MAX_LISTED = 1000;

/**
 * Finds a network's parameters in a source, by torchvision's, timm's or the lesson's names. The source stays open
 * and unread.
 *
 * As PyTorch's `load_state_dict`: with `strict: false` missing and unexpected tensors are allowed, but a shape that
 * differs is not, except for `newHead`.
 * @throws VGGNetError `WEIGHTS_MISMATCH` that lists all the differences; `INVALID_DTYPE` for a parameter that is not
 * F32, F16, BF16 or F64
 */
export function matchWeights(source: WeightSource, layers: readonly Layer[], options: MatchOptions = {}): WeightsMatch {
  const strict = options.strict ?? true;
  const newHead = options.newHead ?? !strict;
  const parameters = new Map(layers.flatMap(parametersOf).map((spec) => [spec.name, spec]));
  const naming = namingOf(source.entries);
  const { found, unexpected } = findAll(source.entries, naming, parameters);
  if (!naming || found.size === 0) {
    throw new VGGNetError(
      'WEIGHTS_MISMATCH',
      `No tensor of this file belongs to the network. Expected names such as ${quoteName([...parameters.keys()][0] ?? '')}, got ${listNames(source.entries)}`,
    );
  }
  const zeros = absentBiases(parameters, found);
  const missing = [...parameters.keys()].filter((name) => !found.has(name) && !zeros.includes(name));
  const replaced = newHead ? replacedHead(parameters, found) : [];
  const differences = [...found]
    .filter(([name, entry]) => !replaced.includes(name) && !fits(parameters.get(name) as ParameterSpec, entry))
    .map(([name, entry]) => {
      const { shape } = parameters.get(name) as ParameterSpec;
      return `${quoteName(entry.name)}: expected shape ${formatShape(shape)}, got ${formatShape(entry.shape)}`;
    });
  if (strict) {
    differences.unshift(
      ...missing.map((name) => {
        const { shape } = parameters.get(name) as ParameterSpec;
        return `${quoteName(name)}: expected shape ${formatShape(shape)}, got no such tensor`;
      }),
    );
    for (const { name, shape } of unexpected) {
      differences.push(`${quoteName(name)}: expected no such tensor, got shape ${formatShape(shape)}`);
    }
  }
  if (differences.length > 0) throw mismatch(differences);

  const canonical = new Map<string, string>();
  for (const [name, entry] of found) {
    if (replaced.includes(name)) continue;
    checkDtype(entry.name, entry.dtype);
    canonical.set(entry.name, name);
  }
  return {
    naming,
    missing,
    unexpected: unexpected.map((entry) => entry.name),
    replaced,
    parameters,
    async *stream(signal) {
      for await (const chunk of source.chunks(new Set(canonical.keys()), signal)) {
        yield { ...chunk, name: canonical.get(chunk.name) as string };
      }
      for (const name of zeros)
        yield { name, offset: 0, data: new Float32Array(numel(parameters.get(name)?.shape ?? [])) };
    },
  };
}

/** The entries that are parameters, by torchvision's names, and those that are not. */
function findAll(
  entries: readonly WeightEntry[],
  naming: Naming | undefined,
  parameters: ReadonlyMap<string, ParameterSpec>,
): { found: Map<string, WeightEntry>; unexpected: WeightEntry[] } {
  const found = new Map<string, WeightEntry>();
  const unexpected: WeightEntry[] = [];
  for (const entry of entries) {
    const name = naming && toCanonical(entry.name, naming);
    if (name !== undefined && parameters.has(name)) found.set(name, entry);
    else if (!isBatchCount(entry.name)) unexpected.push(entry);
  }
  return { found, unexpected };
}

/** Biases of layers whose weights are there: layers that were made without a bias, which is one of zeros. */
function absentBiases(
  parameters: ReadonlyMap<string, ParameterSpec>,
  found: ReadonlyMap<string, WeightEntry>,
): string[] {
  return [...parameters.keys()].filter((name) => {
    const weight = parameters.get(name.replace(/\.bias$/, '.weight'));
    // A batch norm's weight has one dimension: without weight and bias it is another network.
    return (
      name.endsWith('.bias') && !found.has(name) && (weight?.shape.length ?? 0) > 1 && found.has(weight?.name ?? '')
    );
  });
}

/** Whether a tensor has a parameter's shape, or is a linear layer's weight written as a convolution's, as timm does. */
function fits(spec: ParameterSpec, entry: WeightEntry): boolean {
  const { shape } = entry;
  if (sameShape(spec.shape, shape)) return true;
  const [out = 0, inputs = 0] = spec.shape;
  return (
    spec.name.startsWith('classifier.') &&
    spec.shape.length === 2 &&
    shape.length === 4 &&
    shape[0] === out &&
    shape[2] === shape[3] &&
    numel(shape.slice(1)) === inputs
  );
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((size, i) => size === b[i]);
}

/** The last layer's tensors that are in the file, if they are right but for their number of classes. */
function replacedHead(
  parameters: ReadonlyMap<string, ParameterSpec>,
  found: ReadonlyMap<string, WeightEntry>,
): string[] {
  const names = [`${HEAD}.weight`, `${HEAD}.bias`].filter((name) => found.has(name));
  const classes = new Set(names.map((name) => found.get(name)?.shape[0]));
  const alike = names.every((name) => {
    const got = found.get(name) as WeightEntry;
    const { shape } = parameters.get(name) as ParameterSpec;
    return got.shape.length > 0 && sameShape(got.shape.slice(1), shape.slice(1)) && got.shape[0] !== shape[0];
  });
  return alike && classes.size === 1 ? names : [];
}

function mismatch(differences: readonly string[]): VGGNetError {
  const listed = differences.slice(0, MAX_LISTED);
  const more = differences.length - listed.length;
  return new VGGNetError(
    'WEIGHTS_MISMATCH',
    [
      `These weights belong to another network; ${differences.length} ${differences.length === 1 ? 'difference' : 'differences'}:`,
      ...listed,
      ...(more > 0 ? [`and ${more} more`] : []),
    ].join('\n  '),
  );
}

function listNames(entries: readonly WeightEntry[]): string {
  if (entries.length === 0) return 'an empty file';
  const names = entries.slice(0, 5).map((entry) => quoteName(entry.name));
  return `${names.join(', ')}${entries.length > 5 ? ` and ${entries.length - 5} more` : ''}`;
}

/**
 * A match's values, and for what it lacks those of another source (`initSource`): every parameter of the network,
 * each value once. Both sources stay open.
 * @param fill needed if anything is missing or replaced
 * @throws VGGNetError `WEIGHTS_MISMATCH`, while streaming, if the two together do not give every value once;
 * `INVALID_ARGUMENT` if `fill` is needed and not given
 */
export async function* completeStream(
  match: WeightsMatch,
  fill?: WeightSource,
  signal?: AbortSignal,
): AsyncGenerator<ParameterChunk, void, undefined> {
  const lacking = new Set([...match.missing, ...match.replaced]);
  if (lacking.size > 0 && !fill) {
    throw new VGGNetError('INVALID_ARGUMENT', `Nothing to fill in ${[...lacking].map(quoteName).join(', ')} from`);
  }
  const left = new Map([...match.parameters.values()].map((spec) => [spec.name, numel(spec.shape)]));
  for await (const chunk of match.stream(signal)) yield counted(chunk, left, match.parameters);
  if (fill && lacking.size > 0) {
    for await (const chunk of fill.chunks(lacking, signal)) yield counted(chunk, left, match.parameters);
  }
  for (const [name, count] of left) {
    if (count > 0) throw new VGGNetError('WEIGHTS_MISMATCH', `${quoteName(name)}: ${count} values did not come`);
  }
}

/** Takes a chunk off what is left to come; chunks of a parameter come in order. */
function counted(
  chunk: ParameterChunk,
  left: Map<string, number>,
  parameters: ReadonlyMap<string, ParameterSpec>,
): ParameterChunk {
  const { name, offset, data } = chunk;
  const before = left.get(name);
  const spec = parameters.get(name);
  if (before === undefined || !spec || offset !== numel(spec.shape) - before || data.length > before) {
    throw new VGGNetError(
      'WEIGHTS_MISMATCH',
      `${quoteName(name)}: values ${offset} to ${offset + data.length} came out of turn`,
    );
  }
  left.set(name, before - data.length);
  return chunk;
}
