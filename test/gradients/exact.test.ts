import { describe, expect, test } from 'vitest';
import type { Backend, RunOptions } from '../../src/backend.js';
import { resolveConfig } from '../../src/model/config.js';
import { lowbias32 } from '../../src/program/dropout.js';
import type { ReluRule } from '../../src/program/gradient.js';
import type { Layer } from '../../src/program/layers.js';
import type { Tensor } from '../../src/tensor.js';
import { type Architecture, createLayers } from '../../src/vgg.js';
import { createWasmBackend, type WasmOptions } from '../../src/wasm/backend.js';
import { exactGradients } from '../support/exact-gradients.js';
import { generatedTensor } from '../support/generated.js';
import { compileGenerated } from '../support/golden.js';
import { autogradOf, cotangentOf, learnedOf, relativeError } from '../support/gradients.js';
import { program, type Unnamed } from '../support/kernel.js';

/* Gradients on WebAssembly against float64 on the same masks and maxima: layers alone, then whole networks. */

const create = (options: Partial<WasmOptions> = {}): Backend =>
  createWasmBackend({ inline: true, reason: 'asked for by a test', ...options });

interface Request {
  readonly outputs: readonly string[];
  readonly wrt: readonly string[];
  readonly mode?: 'eval' | 'train' | undefined;
  readonly reluRule?: ReluRule;
}

/** ‖error‖ / ‖gradient‖ of what is asked for and of every parameter, the largest one of all. */
async function worstError(
  backend: Backend,
  layers: readonly Layer[],
  input: Tensor,
  request: Request,
): Promise<number> {
  const { outputs, wrt, mode = 'eval', reluRule = 'standard' } = request;
  const trained = learnedOf(layers);
  const executable = await compileGenerated(backend, layers, { gradients: trained });
  try {
    const autograd = autogradOf(executable);
    const run: RunOptions = { outputs, mode, seed: 5 };
    // Running statistics, which train mode moves, are not what it normalizes by.
    const tape = await autograd.record(input, run);
    const cotangents = new Map(outputs.map((name, i) => [name, cotangentOf(name, tape.outputs[i] as Tensor)] as const));
    const results = await tape.backward({ cotangents, wrt, reluRule });
    const actual = new Map(wrt.map((name, i) => [name, (results[i] as Tensor).data]));
    for (const name of trained) actual.set(name, await autograd.readGradient(name));
    const expected = await exactGradients(executable, layers, input, run, { cotangents, wrt, reluRule }, trained);
    let worst = 0;
    const norm = (values: ArrayLike<number>): number => relativeError(new Float64Array(values.length), values);
    const largest = Math.max(
      ...[...expected.values()].map((values) => Math.hypot(...Array.from(values).slice(0, 10_000))),
    );
    for (const [name, values] of expected) {
      // The bias of a convolution before batch norm has a gradient of rounding noise.
      if (norm(values) === 0 || Math.hypot(...Array.from(values).slice(0, 10_000)) < largest * 1e-9) continue;
      worst = Math.max(worst, relativeError(actual.get(name) as Float32Array, values));
    }
    return worst;
  } finally {
    executable.dispose();
  }
}

const conv = (inChannels: number, outChannels: number): Unnamed => ({ op: 'conv2d', inChannels, outChannels });

describe('a layer alone', () => {
  const cases: readonly (readonly [layers: readonly Unnamed[], shape: readonly number[], mode?: 'train'])[] = [
    [[conv(1, 1)], [1, 1, 1, 1]],
    [[conv(3, 5)], [2, 3, 7, 6]],
    [[conv(3, 64)], [1, 3, 33, 31]],
    [[conv(5, 12)], [2, 5, 8, 3]],
    // After another operation a convolution's input is in whole vectors.
    [
      [{ op: 'relu' }, conv(8, 8)],
      [1, 8, 12, 12],
    ],
    [
      [{ op: 'maxPool2d' }, conv(17, 33)],
      [2, 17, 27, 22],
    ],
    [
      [{ op: 'maxPool2d' }, conv(64, 40)],
      [1, 64, 26, 50],
    ],
    [
      [{ op: 'maxPool2d' }, conv(7, 130)],
      [3, 7, 9, 30],
    ],
    [[{ op: 'linear', inFeatures: 1, outFeatures: 1 }], [1, 1]],
    [[{ op: 'linear', inFeatures: 37, outFeatures: 21 }], [5, 37]],
    [[{ op: 'linear', inFeatures: 2050, outFeatures: 19 }], [3, 2050]],
    [[{ op: 'linear', inFeatures: 520, outFeatures: 65 }], [9, 520]],
    [[{ op: 'maxPool2d' }], [2, 9, 7, 11]],
    [
      [{ op: 'relu' }, { op: 'maxPool2d' }],
      [2, 9, 7, 10],
    ],
    [
      [{ op: 'maxPool2d' }, { op: 'maxPool2d' }],
      [1, 3, 13, 14],
    ],
    [[{ op: 'adaptiveAvgPool2d', outputSize: 3 }], [2, 5, 7, 8]],
    [[{ op: 'adaptiveAvgPool2d', outputSize: 7 }], [1, 9, 3, 5]],
    [[{ op: 'batchNorm2d', channels: 9 }], [2, 9, 5, 6]],
    [[{ op: 'batchNorm2d', channels: 9 }], [2, 9, 5, 6], 'train'],
    [[{ op: 'batchNorm2d', channels: 20 }, { op: 'relu' }], [3, 20, 4, 7], 'train'],
    [[conv(3, 11), { op: 'batchNorm2d', channels: 11 }, { op: 'relu' }], [2, 3, 9, 8], 'train'],
    [[{ op: 'dropout', p: 0.4 }], [3, 50], 'train'],
    [[{ op: 'softmax' }], [3, 37]],
    [
      [{ op: 'flatten' }, { op: 'linear', inFeatures: 60, outFeatures: 3 }],
      [2, 3, 4, 5],
    ],
  ];
  test.each(cases.map((one) => [JSON.stringify(one), one] as const))('%s', async (_, [unnamed, shape, mode]) => {
    const layers = program(...unnamed);
    const outputs = [(layers.at(-1) as Layer).name];
    const request = { outputs, wrt: ['input', ...layers.map(({ name }) => name)], mode };
    expect(await worstError(create(), layers, generatedTensor('input', shape, 'input'), request)).toBeLessThan(1e-5);
  });
});

/** A network, an input and taps that a seed chooses. */
function randomCase(seed: number): { layers: Layer[]; shape: number[]; request: Request } {
  let state = seed + 1;
  const draw = (most: number): number => {
    state = lowbias32(state + 0x9e3779b9);
    return state % (most + 1);
  };
  const architecture: (number | 'M')[] = [];
  for (let block = 0; block <= draw(2); block++) {
    for (let i = 0; i <= draw(2); i++) architecture.push(1 + draw(23));
    architecture.push('M');
  }
  const options = {
    inChannels: 1 + draw(4),
    numClasses: 1 + draw(8),
    hiddenFeatures: 1 + draw(20),
    poolSize: 1 + draw(3),
    batchNorm: draw(1) === 1,
    dropout: 0.5,
  };
  const mode = draw(1) === 1 ? 'train' : 'eval';
  const layers = createLayers(resolveConfig(architecture as Architecture, options)).map((layer): Layer => {
    return layer.op === 'batchNorm2d' && draw(3) === 0 ? { ...layer, frozen: true } : layer;
  });
  const taps = [layers[draw(layers.length - 2)], layers[draw(layers.length - 2)], layers[layers.length - 2 + draw(1)]];
  const outputs = [...new Set(taps.map((layer) => (layer as Layer).name))];
  const last = Math.max(...outputs.map((name) => layers.findIndex((layer) => layer.name === name)));
  const wrt = ['input', (layers[draw(last)] as Layer).name, (layers[draw(last)] as Layer).name];
  const side = 2 ** architecture.filter((entry) => entry === 'M').length;
  const shape = [2 + draw(2), options.inChannels, side * 2 + draw(13), side * 2 + draw(13)];
  const reluRule = draw(4) === 0 ? 'guided' : 'standard';
  return { layers, shape, request: { outputs, wrt: [...new Set(wrt)], mode, reluRule } };
}

describe.each([
  ['as planned', {}],
  ['by plain SIMD', { deterministic: true }],
  ['directly', { winograd: false }],
  ['by F(4×4)', { winograd: 4 }],
  ['by F(6×6)', { winograd: 6 }],
] as const)('random networks, %s', (_, options) => {
  test.each(Array.from({ length: 12 }, (_, i) => i))('number %i', async (i) => {
    const number =
      i +
      12 * ['{}', '{"deterministic":true}', '{"winograd":false}', '{"winograd":4}'].indexOf(JSON.stringify(options));
    const { layers, shape, request } = randomCase(number + 100);
    const input = generatedTensor('input', shape, 'input');
    const error = await worstError(create(options), layers, input, request);
    expect(error, JSON.stringify({ shape, request, layers: layers.map(({ name }) => name) })).toBeLessThan(1e-4);
  });
});
