import { VGGNetError } from '../errors.js';
import { quoteName } from './safetensors/header.js';
import type { WeightEntry, WeightSource } from './source.js';

/*
 * Names that are torchvision's in another wrapping: a prefix, since the network was a module of another; `module` or
 * `_orig_mod` anywhere, which DataParallel and torch.compile put in; `features` left out, or cut into slices; the
 * papers' (`conv1_1`, `fc6`); linear layers numbered otherwise. Loaded on demand: most files have plain names.
 */

const KEY = '(weight|bias|running_mean|running_var|num_batches_tracked)';
const WRAPPERS: ReadonlySet<string> = new Set(['module', '_orig_mod']);
const FEATURE = new RegExp(`^((?:[^.]+\\.)*?)(?:features|conv_layers|slice\\d+)\\.(\\d+)\\.${KEY}$`);
const BARE_FEATURE = new RegExp(`^()(\\d+)\\.${KEY}$`);
const PAPER = new RegExp(`^((?:[^.]+\\.)*?)(conv|bn)(\\d{1,2})_(\\d{1,2})\\.${KEY}$`);
const LINEAR =
  /^(?:pre_logits\.fc[12]|head\.fc|(?:classifier|fcs?|head|linears?)(?:\.(?:fc|linear)?\d+)?|(?:fc|linear)_?\d+)$/;
/** The numbers of torchvision's linear layers. */
const NUMBERS = [0, 3, 6] as const;

/** A source with torchvision's names for what it has of a VGG. Other tensors keep theirs. */
export function withPlainNames(source: WeightSource): WeightSource {
  const names = plainNames(source.entries);
  if (!names) return source;
  const renamed = (name: string): string => names.get(name) ?? name;
  const originals = new Map(source.entries.map(({ name }) => [renamed(name), name]));
  if (originals.size !== source.entries.length) return source;
  return {
    entries: source.entries.map((entry) => ({ ...entry, name: renamed(entry.name) })),
    metadata: source.metadata,
    ...(source.stored && { stored: new Map([...source.stored].map(([name, stored]) => [renamed(name), stored])) }),
    async *chunks(wanted, signal) {
      const own = new Set([...wanted].map((name) => originals.get(name) ?? name));
      for await (const chunk of source.chunks(own, signal)) yield { ...chunk, name: renamed(chunk.name) };
    },
    close: () => source.close(),
  };
}

/**
 * torchvision's name of each tensor that has one; undefined if there are no convolutions of a VGG.
 * @throws VGGNetError `WEIGHTS_MISMATCH` if the file has several networks
 */
function plainNames(entries: readonly WeightEntry[]): Map<string, string> | undefined {
  const plain = new Map(entries.map(({ name }) => [name, withoutWrappers(name)]));
  const features = featuresOf(plain);
  if (!features) return undefined;
  const { prefix, names } = features;
  for (const [name, path] of linearsOf(plain, prefix)) names.set(name, path);
  return names;
}

function withoutWrappers(name: string): string {
  const parts = name.split('.');
  return parts.filter((part, i) => i === parts.length - 1 || !WRAPPERS.has(part)).join('.');
}

function featuresOf(plain: ReadonlyMap<string, string>): { prefix: string; names: Map<string, string> } | undefined {
  const byPrefix = new Map<string, Map<string, string>>();
  for (const [name, text] of plain) {
    const match = FEATURE.exec(text) ?? BARE_FEATURE.exec(text);
    if (!match) continue;
    const [, prefix = '', index, key] = match;
    const names = byPrefix.get(prefix) ?? new Map<string, string>();
    byPrefix.set(prefix, names.set(name, `features.${index}.${key}`));
  }
  const [best, second] = [...byPrefix].sort(([, a], [, b]) => b.size - a.size);
  if (!best) return papersOf(plain);
  if (second && second[1].size === best[1].size) {
    const prefixes = [best[0], second[0]].map(quoteName).join(' and ');
    throw new VGGNetError('WEIGHTS_MISMATCH', `This file has several networks, under ${prefixes}; save the one alone`);
  }
  return { prefix: best[0], names: best[1] };
}

/** `conv2_1` and `bn2_1`: each block of convolutions ends with a max-pool. */
function papersOf(plain: ReadonlyMap<string, string>): { prefix: string; names: Map<string, string> } | undefined {
  const found = [...plain].flatMap(([name, text]) => {
    const [, prefix = '', kind, block, index, key] = PAPER.exec(text) ?? [];
    return kind === undefined ? [] : [{ name, prefix, kind, block: Number(block), index: Number(index), key }];
  });
  const prefix = found[0]?.prefix;
  if (prefix === undefined || found.some((one) => one.prefix !== prefix)) return undefined;
  const step = found.some(({ kind }) => kind === 'bn') ? 3 : 2;
  const layers = new Map(found.map(({ block, index }) => [`${block}_${index}`, { block, index }]));
  const numbers = new Map<string, number>();
  let at = 0;
  let before: number | undefined;
  for (const [id, { block }] of [...layers].sort(([, a], [, b]) => a.block - b.block || a.index - b.index)) {
    if (before !== undefined && block !== before) at++;
    numbers.set(id, at);
    at += step;
    before = block;
  }
  const names = found.map(({ name, kind, block, index, key }): [string, string] => {
    const number = (numbers.get(`${block}_${index}`) as number) + (kind === 'bn' ? 1 : 0);
    return [name, `features.${number}.${key}`];
  });
  return { prefix, names: new Map(names) };
}

/** The linear layers under the same prefix: torchvision's numbers, or three others in order. */
function linearsOf(plain: ReadonlyMap<string, string>, prefix: string): [string, string][] {
  const modules = new Map<string, [name: string, key: string][]>();
  for (const [name, text] of plain) {
    const [, path, key] = (text.startsWith(prefix) && /^(.+)\.(weight|bias)$/.exec(text.slice(prefix.length))) || [];
    if (path === undefined || key === undefined || !LINEAR.test(path)) continue;
    modules.set(path, [...(modules.get(path) ?? []), [name, key]]);
  }
  const paths = [...modules.keys()].sort((a, b) => rank(a) - rank(b) || a.localeCompare(b, 'en', { numeric: true }));
  const standard = paths.every((path) => /^(?:classifier|fcs)\.[036]$/.test(path));
  if (!standard && paths.length !== NUMBERS.length) return [];
  return paths.flatMap((path, i) => {
    const number = standard ? path.slice(-1) : NUMBERS[i];
    return (modules.get(path) as [string, string][]).map(([name, key]): [string, string] => {
      return [name, `classifier.${number}.${key}`];
    });
  });
}

/** timm's head comes behind what it calls pre_logits. */
function rank(path: string): number {
  return path.startsWith('pre_logits') ? 0 : 1;
}
