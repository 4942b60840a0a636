import { VGGNetError } from '../errors.js';
import { resolveConfig } from '../model/config.js';
import { formatShape, numel } from '../tensor.js';
import type { VGGConfig } from '../vgg.js';
import { knownName } from './metadata.js';
import { namingOf, toCanonical } from './naming.js';
import { quoteName } from './safetensors/header.js';
import type { WeightEntry } from './source.js';

/** Layers that a network may have between two convolutions, more than any has: a wrong number costs no memory. */
const MAX_POOLS = 64;

/**
 * Derives a network from the names and shapes of its tensors, for a file that carries no description. Max-pools have
 * no tensors: they are the gaps in the numbering of `features.N`. What leaves no trace is assumed: one max-pool after
 * the last convolution, dropout 0.5, and no labels.
 * @throws VGGNetError `WEIGHTS_MISMATCH` if these are not the tensors of a VGG network; `INVALID_ARCHITECTURE` or
 * `INVALID_ARGUMENT` if its sizes are over the limits
 */
export function inferConfig(entries: readonly WeightEntry[]): VGGConfig {
  const naming = namingOf(entries);
  if (!naming) {
    const names = entries.slice(0, 5).map(({ name }) => quoteName(name));
    return fail(
      `no tensor has a name as torchvision, timm or the lesson give it; the file's are ${names.join(', ')}, …`,
    );
  }
  const shapes = new Map<string, readonly number[]>();
  for (const entry of entries) {
    const name = toCanonical(entry.name, naming);
    if (name !== undefined) shapes.set(name, entry.shape);
  }
  const convs = readConvs(shapes);
  const batchNorm = shapes.has(`features.${(convs[0] as Conv).index + 1}.running_mean`);
  const architecture = readArchitecture(convs, shapes, batchNorm);
  const lastChannels = (convs.at(-1) as Conv).outChannels;
  const poolSize = readPoolSize(shapes, lastChannels);
  const hidden = shapeOf(shapes, 'classifier.0.weight');
  const head = shapeOf(shapes, 'classifier.6.weight');
  return resolveConfig(knownName(architecture, batchNorm) ?? architecture, {
    inChannels: (convs[0] as Conv).inChannels,
    numClasses: head[0] ?? 0,
    hiddenFeatures: hidden[0] ?? 0,
    poolSize,
    batchNorm,
  });
}

interface Conv {
  readonly index: number;
  readonly inChannels: number;
  readonly outChannels: number;
}

function readConvs(shapes: ReadonlyMap<string, readonly number[]>): Conv[] {
  const convs: Conv[] = [];
  for (const [name, shape] of shapes) {
    const index = /^features\.(\d+)\.weight$/.exec(name)?.[1];
    if (index === undefined || shape.length === 1) continue;
    const [outChannels = 0, inChannels = 0, height, width] = shape;
    if (shape.length !== 4 || height !== 3 || width !== 3) {
      fail(`${quoteName(name)}: expected a 3×3 convolution, [out, in, 3, 3], got ${formatShape(shape)}`);
    }
    convs.push({ index: Number(index), inChannels, outChannels });
  }
  convs.sort((a, b) => a.index - b.index);
  if (convs.length === 0) fail('there is no convolution, such as features.0.weight');
  return convs;
}

function readArchitecture(
  convs: readonly Conv[],
  shapes: ReadonlyMap<string, readonly number[]>,
  batchNorm: boolean,
): (number | 'M')[] {
  const architecture: (number | 'M')[] = [];
  // A convolution, its batch norm and its ReLU each take a number.
  const step = batchNorm ? 3 : 2;
  let next = 0;
  let channels = (convs[0] as Conv).inChannels;
  for (const { index, inChannels, outChannels } of convs) {
    const at = `features.${index}`;
    const pools = index - next;
    if (pools < 0 || pools > MAX_POOLS) fail(`${at}: expected a convolution at ${next} to ${next + MAX_POOLS}`);
    if (inChannels !== channels) fail(`${at}: expected ${channels} input channels, got ${inChannels}`);
    if (shapes.has(`features.${index + 1}.running_mean`) !== batchNorm) {
      fail(`${at}: expected batch norm after every convolution or after none`);
    }
    architecture.push(...new Array<'M'>(pools).fill('M'), outChannels);
    channels = outChannels;
    next = index + step;
  }
  architecture.push('M');
  return architecture;
}

function readPoolSize(shapes: ReadonlyMap<string, readonly number[]>, channels: number): number {
  const shape = shapeOf(shapes, 'classifier.0.weight');
  const poolSize = Math.sqrt(numel(shape.slice(1)) / channels);
  if (!Number.isInteger(poolSize)) {
    fail(`classifier.0.weight: expected ${channels} channels times a square of inputs, got ${formatShape(shape)}`);
  }
  return poolSize;
}

function shapeOf(shapes: ReadonlyMap<string, readonly number[]>, name: string): readonly number[] {
  return shapes.get(name) ?? fail(`there is no ${name}`);
}

function fail(what: string): never {
  throw new VGGNetError('WEIGHTS_MISMATCH', `These weights are not of a VGG network: ${what}`);
}
