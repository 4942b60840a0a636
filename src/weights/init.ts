import type { ParameterChunk } from '../backend.js';
import { throwIfAborted, VGGNetError } from '../errors.js';
import { type ParameterSpec, parametersOf } from '../program/layers.js';
import { fillNormal, Mt19937 } from '../random.js';
import { numel } from '../tensor.js';
import { createLayers, type VGGConfig } from '../vgg.js';
import { fillUniform, normalDraws, normalParts } from './draws.js';
import { quoteName } from './safetensors/header.js';
import type { WeightSource } from './source.js';

/** 'pytorch': what the layers' constructors draw; 'torchvision': what its VGG then draws over it. */
export type InitScheme = 'pytorch' | 'torchvision';

export interface InitOptions {
  readonly init: InitScheme;
  /** An integer from 0 to 2^32 − 1. */
  readonly seed: number;
  /** Give these parameters only. The others are drawn all the same, so that the numbers do not depend on it. */
  readonly only?: ReadonlySet<string> | undefined;
}

/** Values in a chunk: 1 MiB of float32. */
const CHUNK_VALUES = 2 ** 18;
/** Values passed over between two looks at the clock. */
const DISCARD_VALUES = 2 ** 22;
/** Milliseconds of work after which other tasks get a turn, so that timers, signals and a page stay alive. */
const TURN_MS = 30;

/**
 * Seeded random weights for a network, made as they are read.
 *
 * - `'pytorch'`: weights and biases uniform in ±1/√fan_in, which is `kaiming_uniform_` with a = √5; the values of
 *   `torch.manual_seed(seed); VGG_net()` of the lesson.
 * - `'torchvision'`: convolutions N(0, 2/fan_out), linear weights N(0, 0.01²), biases 0; the values of
 *   `torch.manual_seed(seed); torchvision.models.vgg16()`, whose constructors draw the former first.
 *
 * In both, batch norm has weight 1, bias 0, mean 0 and variance 1. The values are PyTorch's to within float32
 * rounding.
 *
 * Method: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015.
 * @throws VGGNetError `INVALID_ARGUMENT` for an unknown scheme, a bad seed, or a name in `only` that the network
 * does not have
 */
export function initSource(config: VGGConfig, options: InitOptions): WeightSource {
  const { init, seed, only } = options;
  if (init !== 'pytorch' && init !== 'torchvision') {
    throw new VGGNetError('INVALID_ARGUMENT', `init must be 'pytorch' or 'torchvision', got ${String(init)}`);
  }
  const generator = new Mt19937(seed);
  const draws = drawsOf(config, init);
  const names = new Set(draws.map((draw) => draw.name));
  for (const name of only ?? []) {
    if (!names.has(name)) throw new VGGNetError('INVALID_ARGUMENT', `This network has no parameter ${quoteName(name)}`);
  }
  const given = draws.filter((draw) => only?.has(draw.name) ?? true);
  let state: 'new' | 'read' | 'closed' = 'new';
  return {
    entries: given.map(({ name, shape }) => ({ name, shape, dtype: 'F32' })),
    metadata: {},
    async *chunks(wanted, signal) {
      if (state === 'closed') throw new VGGNetError('DISPOSED', 'These weights are closed');
      if (state === 'read') throw new VGGNetError('INVALID_ARGUMENT', 'These weights were read before');
      state = 'read';
      for (const name of wanted) {
        if (!given.some((draw) => draw.name === name)) {
          throw new VGGNetError('INVALID_ARGUMENT', `These weights have no parameter ${quoteName(name)}`);
        }
      }
      const turn = turns(signal);
      const largest = Math.max(...draws.filter(({ name }) => wanted.has(name)).map(({ size }) => size));
      const buffer = new Float32Array(Math.min(CHUNK_VALUES, Math.max(0, largest)));
      if (init === 'torchvision') await discard(generator, constructorDraws(config), turn);
      for (const draw of draws) {
        if (wanted.has(draw.name)) yield* chunksOf(draw, generator, buffer, turn);
        else await passOver(draw, generator, turn);
      }
    },
    close() {
      state = 'closed';
      return Promise.resolve();
    },
  };
}

/** How one parameter's values come about. */
type Draw = { readonly name: string; readonly shape: readonly number[]; readonly size: number } & (
  | { readonly kind: 'constant'; readonly value: number }
  | { readonly kind: 'uniform'; readonly bound: number }
  | { readonly kind: 'normal'; readonly std: number }
);

function drawsOf(config: VGGConfig, init: InitScheme): Draw[] {
  return createLayers(config).flatMap((layer) => {
    const specs = parametersOf(layer);
    const weight = specs[0];
    if (!weight) return [];
    return specs.map((spec): Draw => {
      const base = { name: spec.name, shape: spec.shape, size: numel(spec.shape) };
      if (layer.op === 'batchNorm2d') return { ...base, kind: 'constant', value: isOne(spec.name) ? 1 : 0 };
      const isWeight = spec === weight;
      if (init === 'pytorch') return { ...base, kind: 'uniform', bound: uniformBound(weight, isWeight) };
      if (!isWeight) return { ...base, kind: 'constant', value: 0 };
      return { ...base, kind: 'normal', std: layer.op === 'conv2d' ? Math.SQRT2 / Math.sqrt(fanOut(weight)) : 0.01 };
    });
  });
}

function isOne(batchNormParameter: string): boolean {
  return batchNormParameter.endsWith('.weight') || batchNormParameter.endsWith('.running_var');
}

/** The bound of `kaiming_uniform_` with a = √5, and of the bias, in the steps in which PyTorch computes them. */
function uniformBound(weight: ParameterSpec, isWeight: boolean): number {
  const fanIn = numel(weight.shape.slice(1));
  if (!isWeight) return 1 / Math.sqrt(fanIn);
  const gain = Math.sqrt(2 / (1 + Math.sqrt(5) ** 2));
  return Math.sqrt(3) * (gain / Math.sqrt(fanIn));
}

function fanOut(weight: ParameterSpec): number {
  return (weight.shape[0] as number) * numel(weight.shape.slice(2));
}

/** How many integers the constructors draw: one for each weight and bias. */
function constructorDraws(config: VGGConfig): number {
  return drawsOf(config, 'pytorch').reduce((sum, draw) => sum + (draw.kind === 'uniform' ? draw.size : 0), 0);
}

async function* chunksOf(
  draw: Draw,
  generator: Mt19937,
  buffer: Float32Array,
  turn: Turn,
): AsyncGenerator<ParameterChunk, void, undefined> {
  let offset = 0;
  for (const length of normalParts(draw.size, CHUNK_VALUES)) {
    await turn();
    const data = buffer.subarray(0, length);
    if (draw.kind === 'uniform') fillUniform(data, generator, -draw.bound, draw.bound);
    else if (draw.kind === 'normal') fillNormal(data, generator, 0, draw.std);
    else data.fill(draw.value);
    yield { name: draw.name, offset, data };
    offset += length;
  }
}

async function passOver(draw: Draw, generator: Mt19937, turn: Turn): Promise<void> {
  if (draw.kind === 'constant') return;
  if (draw.kind === 'uniform') return discard(generator, draw.size, turn);
  // A small tensor may leave one of a pair of normals behind.
  if (draw.size < 16) return fillNormal(new Float32Array(draw.size), generator, 0, 1);
  return discard(generator, normalDraws(draw.size), turn);
}

async function discard(generator: Mt19937, count: number, turn: Turn): Promise<void> {
  for (let left = count; left > 0; left -= DISCARD_VALUES) {
    await turn();
    generator.discard(Math.min(left, DISCARD_VALUES));
  }
}

type Turn = () => Promise<void>;

/** Gives other tasks a turn now and then, and stops when the signal has fired. */
function turns(signal: AbortSignal | undefined): Turn {
  let last = performance.now();
  return async () => {
    if (performance.now() - last > TURN_MS) {
      await new Promise<void>((resolve) => setTimeout(resolve, 0));
      last = performance.now();
    }
    throwIfAborted(signal);
  };
}
