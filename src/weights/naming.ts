import { VGGNetError } from '../errors.js';

/**
 * Whose names a file's tensors have: torchvision's (`features.0.weight`, `classifier.0.weight`), timm's
 * (`pre_logits.fc1.weight`, `head.fc.weight`) or the lesson's (`conv_layers.0.weight`, `fcs.0.weight`).
 */
export type NamingScheme = 'torchvision' | 'timm' | 'lesson';

export interface Naming {
  readonly scheme: NamingScheme;
  /** What torch.nn.DataParallel puts before every name. */
  readonly prefix: '' | 'module.';
}

interface Modules {
  readonly features: string;
  /** What the scheme calls torchvision's classifier.0, .3 and .6. */
  readonly linear: readonly [string, string, string];
}

const SCHEMES: Readonly<Record<NamingScheme, Modules>> = {
  torchvision: { features: 'features', linear: ['classifier.0', 'classifier.3', 'classifier.6'] },
  timm: { features: 'features', linear: ['pre_logits.fc1', 'pre_logits.fc2', 'head.fc'] },
  lesson: { features: 'conv_layers', linear: ['fcs.0', 'fcs.3', 'fcs.6'] },
};

/** Throws `INVALID_ARGUMENT` if there is no such scheme. */
export function checkScheme(scheme: NamingScheme): void {
  if (Object.hasOwn(SCHEMES, scheme)) return;
  const known = Object.keys(SCHEMES).map((name) => `'${name}'`);
  throw new VGGNetError('INVALID_ARGUMENT', `naming must be one of ${known.join(', ')}, got '${String(scheme)}'`);
}

const CLASSIFIER = SCHEMES.torchvision.linear;
const FEATURE_KEY = /^(\d+)\.(weight|bias|running_mean|running_var|num_batches_tracked)$/;
const LINEAR_KEYS: readonly string[] = ['weight', 'bias'];

/** torchvision's name for a tensor of another scheme; undefined if the scheme has no such tensor. */
export function toCanonical(name: string, naming: Naming): string | undefined {
  if (!name.startsWith(naming.prefix)) return undefined;
  const rest = name.slice(naming.prefix.length);
  const { features, linear } = SCHEMES[naming.scheme];
  if (rest.startsWith(`${features}.`)) {
    const key = rest.slice(features.length + 1);
    return FEATURE_KEY.test(key) ? `features.${key}` : undefined;
  }
  for (const [i, module] of linear.entries()) {
    if (!rest.startsWith(`${module}.`)) continue;
    const key = rest.slice(module.length + 1);
    return LINEAR_KEYS.includes(key) ? `${CLASSIFIER[i]}.${key}` : undefined;
  }
  return undefined;
}

/** A scheme's name for a tensor that torchvision calls `canonical`; other names stay as they are. */
export function rename(canonical: string, scheme: NamingScheme): string {
  const { features, linear } = SCHEMES[scheme];
  if (canonical.startsWith('features.')) return `${features}${canonical.slice('features'.length)}`;
  for (const [i, module] of CLASSIFIER.entries()) {
    if (canonical.startsWith(`${module}.`)) return `${linear[i]}${canonical.slice(module.length)}`;
  }
  return canonical;
}

/**
 * The shape that a scheme gives a tensor: timm's first two linear layers are convolutions over the pooled grid,
 * (4096, 512, 7, 7) and (4096, 4096, 1, 1). The values are the same in the same order.
 */
export function renamedShape(
  canonical: string,
  shape: readonly number[],
  scheme: NamingScheme,
  poolSize: number,
): readonly number[] {
  const [out = 0, inputs = 0] = shape;
  if (scheme !== 'timm') return shape;
  if (canonical === 'classifier.0.weight') return [out, inputs / poolSize ** 2, poolSize, poolSize];
  if (canonical === 'classifier.3.weight') return [out, inputs, 1, 1];
  return shape;
}

const PREFIXES: readonly Naming['prefix'][] = ['', 'module.'];

/** The naming of each list of tensors that was asked for. */
const recognized = new WeakMap<readonly NamedTensor[], Naming | undefined>();

interface NamedTensor {
  readonly name: string;
}

/**
 * The naming under which the most of a file's names are known; undefined if none is known. A file of `features` alone
 * counts as torchvision's. It is recognized once for each list of tensors.
 */
export function namingOf(tensors: readonly NamedTensor[]): Naming | undefined {
  if (!recognized.has(tensors)) recognized.set(tensors, recognizeNaming(tensors));
  return recognized.get(tensors);
}

function recognizeNaming(tensors: readonly NamedTensor[]): Naming | undefined {
  let best: Naming | undefined;
  let most = 0;
  for (const scheme of Object.keys(SCHEMES) as NamingScheme[]) {
    for (const prefix of PREFIXES) {
      const naming: Naming = { scheme, prefix };
      const known = tensors.filter(({ name }) => toCanonical(name, naming) !== undefined).length;
      if (known > most) {
        most = known;
        best = naming;
      }
    }
  }
  return best;
}
