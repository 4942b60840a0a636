import { describe, expect, test } from 'vitest';
import type { Backend, ParameterStream } from '../../src/backend.js';
import type { Layer } from '../../src/program/layers.js';
import { createReferenceBackend } from '../../src/reference/backend.js';
import { Tensor } from '../../src/tensor.js';
import { createWasmBackend } from '../../src/wasm/backend.js';
import { toFloat16, toFloat32 } from '../../src/weights/dtype.js';
import { roundedStream } from '../../src/weights/quantize/stream.js';
import { expectClose } from '../support/close.js';
import { generatedParameters, generatedTensor } from '../support/generated.js';
import { program, type Unnamed } from '../support/kernel.js';

/*
 * Integer layers against the reference's loops, which get the same rounded weights and an input quantized in JavaScript; and
 * low-precision linear layers on any input, which are the same as float32 to the bit.
 * This is the plain build: the relaxed one's sums are held against it in runtimes that have them (test/runtimes).
 */

/** Sums are exact; their factors and the epilogue are rounded a few times, of values near 1. */
const TOLERANCE = { atol: 2e-5, rtol: 2e-6 };

/** (N, C, OC, H, W): panels and tiles that are not full, channels that are no whole fours, several images. */
const SHAPES: readonly [number, number, number, number, number][] = [
  [1, 8, 8, 1, 1],
  [1, 3, 5, 2, 1],
  [2, 5, 7, 3, 2],
  [1, 7, 9, 1, 13],
  [1, 16, 24, 6, 7],
  [2, 24, 32, 7, 9],
  [3, 33, 31, 6, 6],
  [1, 64, 65, 11, 13],
  [2, 64, 64, 14, 15],
  [1, 256, 40, 9, 9],
];

const conv = (inChannels: number, outChannels: number, more: object = {}): Unnamed => ({
  op: 'conv2d',
  inChannels,
  outChannels,
  precision: 'int8',
  ...more,
});
const relu: Unnamed = { op: 'relu' };

const parameters = (layers: readonly Layer[]): ParameterStream => roundedStream(generatedParameters(layers), layers);

async function run(backend: Backend, layers: readonly Layer[], x: Tensor): Promise<Tensor> {
  const executable = await backend.compile({ layers }, parameters(layers));
  try {
    const outputs = [(layers.at(-1) as Layer).name];
    return (await executable.run(x, { outputs, mode: 'eval', seed: 0 }))[0] as Tensor;
  } finally {
    executable.dispose();
  }
}

/** What is left of an input of a convolution: 127 steps up to its largest value, or to `range`. */
function stepped({ data, shape }: Tensor, range?: number, steps = 127): Tensor {
  const out = data.slice();
  const size = data.length / (shape[0] as number);
  for (let first = 0; first < data.length; first += size) {
    const most = Math.fround(range ?? Math.max(...data.subarray(first, first + size)));
    const factor = Math.fround(most === 0 ? 0 : steps / most);
    for (let i = first; i < first + size; i++) {
      const value = Math.min(steps, Math.fround((data[i] as number) * factor));
      const q = Math.fround(value + 12582912) - 12582912;
      out[i] = (q * most) / steps;
    }
  }
  return new Tensor(out, shape);
}

/** The layers after the first, a ReLU, on its quantized output. */
async function expected(layers: readonly Layer[], x: Tensor, range?: number, steps?: number): Promise<Tensor> {
  const reference = createReferenceBackend();
  const positive = new Tensor(
    x.data.map((value) => Math.max(value, 0)),
    x.shape,
  );
  return run(reference, layers.slice(1), stepped(positive, range, steps));
}

/** Without Winograd's method, which float32 has in this build, and which is faster. */
const create = (threads = 1): Backend =>
  createWasmBackend({ deterministic: true, winograd: false, threads, inline: threads === 1, reason: 'a test' });

describe('a convolution in int8', () => {
  test('runs in float32 where that is faster and there is memory for it', async () => {
    const layers = program(relu, conv(64, 64));
    const x = generatedTensor('x', [1, 64, 56, 56], 'input');
    const algorithm = async (memoryLimit?: number): Promise<string | undefined> => {
      const backend = createWasmBackend({ deterministic: true, inline: true, memoryLimit, reason: 'a test' });
      const executable = await backend.compile({ layers, inputShape: x.shape }, parameters(layers));
      const steps = await executable.profile(x, { outputs: ['conv2d1'], mode: 'eval', seed: 0 });
      executable.dispose();
      return steps.find(({ name }) => name === 'conv2d1')?.algorithm;
    };
    expect(await algorithm()).toMatch(/^winograd[46]$/);
    expect(await algorithm(3.5 * 2 ** 20)).toBe('int8');
  });

  test.each([...SHAPES])('N %i, C %i, OC %i, %i×%i', async (N, C, OC, H, W) => {
    const x = generatedTensor('x', [N, C, H, W], 'input');
    const norm: Unnamed = { op: 'batchNorm2d', channels: OC };
    const pool: Unnamed[] = H > 1 && W > 1 ? [{ op: 'maxPool2d' }] : [];
    for (const tail of [[], [relu], [relu, ...pool], [norm, relu, ...pool]]) {
      const layers = program(relu, conv(C, OC), ...tail);
      expectClose((await run(create(), layers, x)).data, (await expected(layers, x)).data, { ...TOLERANCE, what: 'y' });
    }
  });

  test('with a range of its own takes larger inputs as the largest', async () => {
    const x = generatedTensor('x', [2, 8, 6, 7], 'input');
    const layers = program(relu, conv(8, 16, { inputRange: 0.75 }));
    const [y, z] = [await run(create(), layers, x), await expected(layers, x, 0.75)];
    expectClose(y.data, z.data, { ...TOLERANCE, what: 'y' });
  });

  test('of zeros is the bias', async () => {
    const layers = program(relu, conv(8, 16));
    const x = Tensor.zeros([1, 8, 5, 5]);
    expect((await run(create(), layers, x)).data).toEqual((await run(createReferenceBackend(), layers, x)).data);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY])(
    'of an input with %s has no finite value in that image alone',
    async (odd) => {
      const x = generatedTensor('x', [2, 8, 6, 7], 'input');
      const layers = program(relu, conv(8, 16));
      const whole = await run(create(), layers, x);
      x.data[7] = odd;
      const { data } = await run(create(), layers, x);
      const half = data.length / 2;
      expect(data.subarray(0, half).some(Number.isFinite)).toBe(false);
      expect(data.subarray(half)).toEqual(whole.data.subarray(half));
    },
  );

  test('has the same bits in a batch, and on any number of threads', async () => {
    const x = generatedTensor('x', [5, 16, 13, 11], 'input');
    const layers = program(relu, conv(16, 40), relu, { op: 'maxPool2d' }, conv(40, 24));
    const all = await run(create(), layers, x);
    const size = all.data.length / 5;
    for (let n = 0; n < 5; n++) {
      const one = new Tensor(x.data.slice((n * x.data.length) / 5, ((n + 1) * x.data.length) / 5), [1, 16, 13, 11]);
      expect((await run(create(), layers, one)).data).toEqual(all.data.subarray(n * size, (n + 1) * size));
    }
    for (const threads of [2, 3, 7]) expect((await run(create(threads), layers, x)).data).toEqual(all.data);
  });

  test('that sees negative values runs in float32, on the rounded weights', async () => {
    const layers = program(conv(16, 24));
    const x = generatedTensor('x', [1, 16, 9, 9], 'input');
    const [y, z] = [await run(create(), layers, x), await run(createReferenceBackend(), layers, x)];
    expectClose(y.data, z.data, { atol: 2e-5, rtol: 1e-5, what: 'y' });
  });
});

/** (inputs, outputs): rows that are not four, columns that are no whole vectors, groups or slices. */
const LINEAR: readonly [number, number][] = [
  [1, 1],
  [3, 5],
  [15, 12],
  [31, 4],
  [33, 13],
  [64, 24],
  [2047, 6],
  [2048, 8],
  [2050, 9],
  [4133, 7],
];

describe.each(['fp16', 'int8', 'int4'] as const)('a linear layer in %s', (precision) => {
  const layer = (inFeatures: number, outFeatures: number): Layer[] =>
    program({ op: 'linear', inFeatures, outFeatures, precision }, relu);
  const float = (layers: readonly Layer[]): Layer[] =>
    layers.map((one) => (one.op === 'linear' ? { ...one, precision: 'fp32' } : one));

  test.each([...LINEAR])(
    '%i inputs, %i outputs: the bits of float32 with the same weights',
    async (inputs, outputs) => {
      const layers = layer(inputs, outputs);
      for (const deterministic of [true, false]) {
        const backend = createWasmBackend({ deterministic, inline: true, reason: 'a test' });
        for (const N of [1, 2, 4]) {
          const x = generatedTensor('x', [N, inputs], 'input');
          const few = await backend.compile({ layers }, parameters(layers));
          const whole = await backend.compile({ layers: float(layers) }, parameters(layers));
          const options = { outputs: ['relu1'], mode: 'eval', seed: 0 } as const;
          const [[y], [z]] = [await few.run(x, options), await whole.run(x, options)];
          // Rows past the last four are summed in another order in float32.
          const four = outputs - (outputs % 4);
          for (let n = 0; n < N; n++) {
            const at = n * outputs;
            expect(y?.data.subarray(at, at + four)).toEqual(z?.data.subarray(at, at + four));
            expectClose(
              (y as Tensor).data.subarray(at + four, at + outputs),
              (z as Tensor).data.subarray(at + four, at + outputs),
              { atol: 1e-5, rtol: 1e-5, what: 'y' },
            );
          }
          const name = 'linear0.weight';
          expect(await few.readParameter(name)).toEqual(await whole.readParameter(name));
          few.dispose();
          whole.dispose();
        }
      }
    },
  );

  test('gives an image the same bits alone and among others, on any number of threads', async () => {
    const layers = layer(2100, 13);
    const x = generatedTensor('x', [4, 2100], 'input');
    const backend = (threads: number): Backend =>
      createWasmBackend({ threads, inline: threads === 1, reason: 'a test' });
    const all = await run(backend(1), layers, x);
    for (let n = 0; n < 4; n++) {
      const one = new Tensor(x.data.slice(n * 2100, (n + 1) * 2100), [1, 2100]);
      expect((await run(backend(1), layers, one)).data).toEqual(all.data.subarray(n * 13, (n + 1) * 13));
    }
    for (const threads of [2, 3]) expect((await run(backend(threads), layers, x)).data).toEqual(all.data);
  });
});

describe('a linear layer on what is not negative', () => {
  const layers = (precision: 'int8' | 'int4', inFeatures: number, outFeatures: number): Layer[] =>
    program(relu, { op: 'linear', inFeatures, outFeatures, precision });
  const CASES = (['int8', 'int4'] as const).flatMap((precision) => LINEAR.map((size) => [precision, ...size] as const));

  test.each(CASES)('%s, %i inputs, %i outputs: takes 14 bits of them', async (precision, inputs, outputs) => {
    for (const N of [1, 3]) {
      const x = generatedTensor('x', [N, inputs], 'input');
      const [y, z] = [
        await run(create(), layers(precision, inputs, outputs), x),
        await expected(layers(precision, inputs, outputs), x, undefined, 127 * 128),
      ];
      // Sums of groups are exact; those of up to 130 groups are rounded.
      expectClose(y.data, z.data, { atol: 2e-5, rtol: 1e-5, what: 'y' });
    }
  });

  test.each(['int8', 'int4'] as const)(
    '%s: the same bits in a batch, and on any number of threads',
    async (precision) => {
      const x = generatedTensor('x', [5, 2100], 'input');
      const all = await run(create(), layers(precision, 2100, 30), x);
      for (let n = 0; n < 5; n++) {
        const one = new Tensor(x.data.slice(n * 2100, (n + 1) * 2100), [1, 2100]);
        expect((await run(create(), layers(precision, 2100, 30), one)).data).toEqual(
          all.data.subarray(n * 30, (n + 1) * 30),
        );
      }
      for (const threads of [2, 3, 7]) {
        expect((await run(create(threads), layers(precision, 2100, 30), x)).data).toEqual(all.data);
      }
    },
  );

  test.each([Number.NaN, Number.POSITIVE_INFINITY])('an input with %s spoils its own image alone', async (odd) => {
    const x = generatedTensor('x', [2, 70], 'input');
    const whole = await run(create(), layers('int4', 70, 6), x);
    x.data[7] = odd;
    const { data } = await run(create(), layers('int4', 70, 6), x);
    expect(data.subarray(0, 6).some(Number.isFinite)).toBe(false);
    expect(data.subarray(6)).toEqual(whole.data.subarray(6));
  });
});

test.each([true, false])(
  'halves of any size give the bits of float32, alone and in a batch (deterministic: %s)',
  async (deterministic) => {
    const [inputs, outputs] = [2054, 20];
    const weights = generatedTensor('linear0.weight', [outputs, inputs], 'weight').data;
    const row = (index: number): Float32Array => weights.subarray(index * inputs, (index + 1) * inputs);
    // Subnormal halves, one among others, halves from the smallest to the largest, zeros, an infinity.
    for (const [i, value] of row(1).entries()) row(1)[i] = value * 2 ** -13;
    row(2)[100] = 2 ** -24;
    for (const [i, value] of row(3).entries()) row(3)[i] = value * 2 ** ((i % 39) - 19);
    row(4).fill(0);
    row(14)[7] = Number.POSITIVE_INFINITY;
    const rounded = toFloat32(new Uint8Array(toFloat16(weights).buffer), 'F16');
    async function* stream(): ParameterStream {
      yield { name: 'linear0.weight', offset: 0, data: rounded };
      yield { name: 'linear0.bias', offset: 0, data: new Float32Array(outputs) };
    }
    const backend = createWasmBackend({ deterministic, inline: true, reason: 'a test' });
    const compile = (precision: 'fp16' | 'fp32') =>
      backend.compile(
        { layers: program({ op: 'linear', inFeatures: inputs, outFeatures: outputs, precision }) },
        stream(),
      );
    const [halves, floats] = [await compile('fp16'), await compile('fp32')];
    expect(await halves.readParameter('linear0.weight')).toEqual(rounded);
    for (const N of [1, 3]) {
      const x = generatedTensor('x', [N, inputs], 'input');
      const options = { outputs: ['linear0'], mode: 'eval', seed: 0 } as const;
      const [[y], [z]] = [await halves.run(x, options), await floats.run(x, options)];
      expect(y?.data).toEqual(z?.data);
      expect(Number.isFinite(y?.data[14])).toBe(false);
    }
    halves.dispose();
    floats.dispose();
  },
);

test('halves come back as they went in: subnormals, infinities and NaN', async () => {
  const values = Float32Array.of(
    0,
    -0,
    2 ** -24,
    -(2 ** -24),
    3 * 2 ** -20,
    2 ** -14,
    1 / 3,
    65504,
    -65504,
    65520,
    Number.NaN,
    Number.NEGATIVE_INFINITY,
  );
  const layers = program({ op: 'linear', inFeatures: values.length, outFeatures: 1, precision: 'fp16' });
  const backend = createWasmBackend({ inline: true, reason: 'a test' });
  async function* stream(): ParameterStream {
    yield { name: 'linear0.weight', offset: 0, data: values };
    yield { name: 'linear0.bias', offset: 0, data: new Float32Array(1) };
  }
  const executable = await backend.compile({ layers }, stream());
  expect([...(await executable.readParameter('linear0.weight'))]).toEqual([
    ...[0, -0, 2 ** -24, -(2 ** -24), 3 * 2 ** -20, 2 ** -14, 0.333251953125, 65504, -65504],
    ...[Number.POSITIVE_INFINITY, Number.NaN, Number.NEGATIVE_INFINITY],
  ]);
  executable.dispose();
});
