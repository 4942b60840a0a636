import { describe, expect, test } from 'vitest';
import { lowbias32 } from '../../src/program/dropout.js';
import { type Layer, parametersOf } from '../../src/program/layers.js';
import { forward, inputGradient, type Mode, parameterGradients } from '../../src/reference/layer.js';
import { axpy, dot, gram, gramInputGradient } from '../../src/reference/matrix.js';
import type { Floats, Parameters, Value } from '../../src/reference/value.js';
import { numel, Tensor } from '../../src/tensor.js';
import { expectClose } from '../support/close.js';
import { program, type Unnamed } from '../support/kernel.js';

/*
 * Every operation's backward against central differences of its forward, both in float64 storage, where a difference of
 * sums keeps ten digits: the loss is Σ cotangent · y. The tolerances are those of torch.autograd.gradcheck.
 */

const EPS = 1e-6;
const TOLERANCE = { atol: 1e-5, rtol: 1e-3 };

/** Distinct values in ±2, none nearer to zero or to another than 1e-3, so that no step crosses a kink. */
function distinct(name: string, size: number): Float64Array {
  const order = Array.from({ length: size }, (_, i) => i);
  let seed = [...name].reduce((hash, letter) => lowbias32(hash ^ letter.charCodeAt(0)), 1);
  for (let i = size - 1; i > 0; i--) {
    seed = lowbias32(seed + 1);
    const j = seed % (i + 1);
    [order[i], order[j]] = [order[j] as number, order[i] as number];
  }
  return Float64Array.from(order, (rank) => ((rank + 0.5) / size - 0.5) * 4);
}

const value = (name: string, shape: readonly number[]): Value => ({ data: distinct(name, numel(shape)), shape });

/** The parameters of a layer; variances and norm weights are positive. */
function parametersFor(layer: Layer): Record<string, Float64Array> {
  return Object.fromEntries(
    parametersOf(layer).map(({ name, shape }) => {
      const key = name.slice(layer.path.length + 1);
      const data = distinct(name, numel(shape));
      return [key, key === 'running_var' ? data.map((x) => 0.5 + x * x) : data];
    }),
  );
}

const copyOf = (parameters: Parameters): Parameters =>
  Object.fromEntries(Object.entries(parameters).map(([key, data]) => [key, data.slice()]));

/** d loss / d values, one at a time. */
function differences(values: Floats, loss: () => number): Float64Array {
  return Float64Array.from(values, (at, i) => {
    values[i] = at + EPS;
    const above = loss();
    values[i] = at - EPS;
    const below = loss();
    values[i] = at;
    return (above - below) / (2 * EPS);
  });
}

interface Case {
  readonly layer: Unnamed;
  readonly shape: readonly number[];
  readonly mode?: 'eval' | 'train';
  readonly frozen?: boolean;
}

const CASES: readonly Case[] = [
  { layer: { op: 'conv2d', inChannels: 2, outChannels: 3 }, shape: [2, 2, 3, 5] },
  { layer: { op: 'conv2d', inChannels: 3, outChannels: 1 }, shape: [1, 3, 1, 1] },
  { layer: { op: 'conv2d', inChannels: 1, outChannels: 2 }, shape: [3, 1, 2, 4] },
  { layer: { op: 'linear', inFeatures: 5, outFeatures: 3 }, shape: [2, 5] },
  { layer: { op: 'batchNorm2d', channels: 3 }, shape: [2, 3, 2, 3] },
  { layer: { op: 'batchNorm2d', channels: 3 }, shape: [2, 3, 2, 3], mode: 'train' },
  { layer: { op: 'batchNorm2d', channels: 2 }, shape: [1, 2, 1, 2], mode: 'train' },
  { layer: { op: 'batchNorm2d', channels: 3, frozen: true }, shape: [2, 3, 2, 3], mode: 'train' },
  { layer: { op: 'relu' }, shape: [2, 3, 4, 5] },
  { layer: { op: 'maxPool2d' }, shape: [2, 2, 4, 6] },
  { layer: { op: 'maxPool2d' }, shape: [1, 3, 5, 3] },
  { layer: { op: 'adaptiveAvgPool2d', outputSize: 3 }, shape: [2, 2, 7, 5] },
  { layer: { op: 'adaptiveAvgPool2d', outputSize: 4 }, shape: [1, 2, 2, 3] },
  { layer: { op: 'adaptiveAvgPool2d', outputSize: 2 }, shape: [1, 2, 4, 6] },
  { layer: { op: 'flatten' }, shape: [2, 3, 2, 2] },
  { layer: { op: 'dropout', p: 0.5 }, shape: [3, 8], mode: 'train' },
  { layer: { op: 'dropout', p: 0.5 }, shape: [3, 8] },
  { layer: { op: 'dropout', p: 1 }, shape: [2, 4], mode: 'train' },
  { layer: { op: 'softmax' }, shape: [3, 5] },
  { layer: { op: 'softmax' }, shape: [2, 1] },
];

describe('finite differences', () => {
  test.each(CASES.map((one) => [`${one.layer.op} of ${one.shape.join('×')}, ${one.mode ?? 'eval'}`, one] as const))(
    '%s',
    (what, { layer: unnamed, shape, mode = 'eval' }) => {
      const [layer] = program(unnamed) as [Layer];
      const run: Mode = { mode, seed: 7 };
      const x = value('x', shape);
      const parameters = parametersFor(layer);
      const y = forward(layer, 0, x, copyOf(parameters), run);
      const dy = value('dy', y.shape);
      // Batch norm in train mode changes its running statistics, so each forward gets copies.
      const loss = (): number => {
        const { data } = forward(layer, 0, x, copyOf(parameters), run);
        return Float64Array.from(data).reduce((sum, one, i) => sum + one * (dy.data[i] as number), 0);
      };
      const dx = inputGradient(layer, 0, dy, { x, y }, parameters, { ...run, reluRule: 'standard' });
      expect(dx.shape).toEqual(x.shape);
      expectClose(dx.data, differences(x.data, loss), { ...TOLERANCE, what: `dx of ${what}`, shape });

      const gradients = parameterGradients(layer, dy, { x, y }, parameters, run);
      const learned = parametersOf(layer).filter((spec) => spec.learned);
      expect(Object.keys(gradients)).toEqual(learned.map(({ name }) => name.slice(layer.path.length + 1)));
      for (const [key, gradient] of Object.entries(gradients)) {
        const numeric = differences(parameters[key] as Float64Array, loss);
        expectClose(gradient, numeric, { ...TOLERANCE, what: `d${key} of ${what}` });
      }
    },
  );

  test('gram, in float32, whose loss is quadratic', () => {
    const x = new Tensor(Float32Array.from(distinct('x', 24)), [2, 3, 2, 2]);
    const dg = new Tensor(Float32Array.from(distinct('dg', 18)), [2, 3, 3]);
    const dx = gramInputGradient(dg, x);
    for (let i = 0; i < x.size; i++) {
      // A central difference of a quadratic is exact for a step of any size.
      const moved = (step: number): number => {
        const copy = x.data.slice();
        copy[i] = (copy[i] as number) + step;
        return dot(gram(new Tensor(copy, x.shape)), dg);
      };
      expect(dx.data[i]).toBeCloseTo((moved(1) - moved(-1)) / 2, 3);
    }
  });

  test('dot and axpy', () => {
    const a = new Tensor(Float32Array.of(1, 2, -3), [3]);
    const b = new Tensor(Float32Array.of(4, -5, 0.5), [3]);
    expect(dot(a, b)).toBe(4 - 10 - 1.5);
    expect([...axpy(-2, a, b).data]).toEqual([2, -9, 6.5]);
  });
});

describe('the rules at kinks, zeros and NaN', () => {
  const grad = (
    unnamed: Unnamed,
    x: readonly number[],
    dy: readonly number[],
    shape: readonly number[],
    rule?: 'guided',
  ) => {
    const [layer] = program(unnamed) as [Layer];
    const run: Mode = { mode: 'train', seed: 0 };
    const input = { data: Float64Array.from(x), shape };
    const y = forward(layer, 0, input, {}, run);
    const cotangent = { data: Float64Array.from(dy), shape: y.shape };
    const options = { ...run, reluRule: rule ?? ('standard' as const) };
    return [...inputGradient(layer, 0, cotangent, { x: input, y }, {}, options).data];
  };

  test('relu: nothing at 0 and -0; dy where y is NaN; a zero ends a NaN', () => {
    const x = [-1, -0, 0, 1, NaN, -1, 1, Infinity];
    const dy = [5, 5, 5, 5, 5, NaN, NaN, Infinity];
    expect(grad({ op: 'relu' }, x, dy, [1, 8])).toEqual([0, 0, 0, 5, 5, 0, NaN, Infinity]);
  });

  test('relu, guided: only what is positive in both', () => {
    expect(grad({ op: 'relu' }, [1, 1, 1, -1, 1], [2, -2, 0, 2, NaN], [1, 5], 'guided')).toEqual([2, 0, 0, 0, NaN]);
  });

  test.each([
    ['the first of equal maxima', [3, 3, 3, 3], 0],
    ['the first of the equal maxima after a smaller value', [1, 3, 3, 3], 1],
    ['the last NaN', [NaN, 1, NaN, 2], 2],
    ['a NaN after an infinity', [Infinity, NaN, 1, 2], 1],
    ['the first, if all are -Infinity', [-Infinity, -Infinity, -Infinity, -Infinity], 0],
    ['the first of zeros of either sign', [-0, 0, -0, 0], 0],
  ] as const)('maxPool2d gives its gradient to %s', (_, x, position) => {
    const expected = [0, 0, 0, 0];
    expected[position] = 7;
    expect(grad({ op: 'maxPool2d' }, x, [7], [1, 1, 2, 2])).toEqual(expected);
  });

  test('maxPool2d gives the odd last row and column nothing', () => {
    const x = Array.from({ length: 9 }, (_, i) => i);
    expect(grad({ op: 'maxPool2d' }, x, [2], [1, 1, 3, 3])).toEqual([0, 0, 0, 0, 2, 0, 0, 0, 0]);
  });

  test('dropout with p = 1 gives 0, and NaN for a NaN', () => {
    expect(grad({ op: 'dropout', p: 1 }, [1, 2], [3, NaN], [1, 2])).toEqual([0, NaN]);
  });
});
