import { describe, expect, test } from 'vitest';
import type { Backend } from '../src/backend.js';
import { dropoutHash, dropoutThreshold } from '../src/program/dropout.js';
import { Tensor } from '../src/tensor.js';
import { BACKENDS, FAST_BACKENDS } from './support/backends.js';
import type { Tolerance } from './support/close.js';
import { generatedTensor } from './support/generated.js';
import { compileGenerated } from './support/golden.js';
import { expectAsReference, Pair, program } from './support/kernel.js';

/* What the operations of each backend give, by hand-made expectations and beside the reference. */

/** Comparisons and copies round nothing. */
const EXACT: Tolerance = { atol: 0, rtol: 0 };
/**
 * Sums of K products of inputs below √3 and Kaiming weights: each sum is near 1.4, its partial sums below 10, and
 * the error of float32 in any order about √K · 2^-24 of those: up to 4e-6 where K = 1000 are summed one by one.
 */
const SUM: Tolerance = { atol: 1e-5, rtol: 1e-5 };
/** Means of a few values below √3, rounded a few times. */
const MEAN: Tolerance = { atol: 1e-6, rtol: 1e-6 };
/** A multiply and an add, whose factor of up to 1.5 / √0.5 may have been rounded before. */
const AFFINE: Tolerance = { atol: 2e-6, rtol: 1e-6 };
/** As AFFINE, after a deviation that may be as small as a tenth of the values that it is made from. */
const BATCH_STATISTICS: Tolerance = { atol: 2e-5, rtol: 1e-5 };
/** exp of −3.5 to 0 by a short polynomial: relative errors of a few 2^-24. */
const SOFTMAX: Tolerance = { atol: 1e-7, rtol: 1e-5 };
/** SUM, whose error a batch norm multiplies by up to 1.5 / √0.5, and the next sums carry on. */
const CHAIN: Tolerance = { atol: 2e-5, rtol: 2e-5 };

/** (N, C, OC, H, W): every size of interest in each place at least once. */
const CONV_SHAPES: readonly [number, number, number, number, number][] = [
  [1, 1, 1, 1, 1],
  [1, 3, 64, 15, 14],
  [2, 3, 8, 7, 5],
  [3, 5, 7, 3, 2],
  [1, 7, 5, 1, 15],
  [1, 8, 8, 14, 14],
  [2, 8, 9, 15, 1],
  [1, 9, 16, 5, 7],
  [1, 16, 17, 2, 3],
  [3, 17, 1, 7, 7],
  [2, 17, 9, 2, 2],
  [1, 64, 64, 14, 15],
  [2, 64, 3, 3, 5],
  [1, 1, 17, 15, 15],
  [3, 16, 16, 1, 2],
  [1, 3, 24, 33, 31],
];
const SIZES = [1, 2, 3, 5, 7, 14, 15];
/** (N, C) of what is pooled. */
const POOLED = [
  [1, 1],
  [2, 5],
  [3, 8],
  [1, 17],
  [1, 64],
] as const;
const LINEAR_SIZES = [1, 3, 7, 31, 64, 100, 1000];

const input = (shape: number[]): Tensor => generatedTensor(`input ${shape.join('x')}`, shape, 'input');

/** Puts NaN and both infinities far enough apart that each acts alone in some places, and together in others. */
function withSpecials(tensor: Tensor): Tensor {
  const data = tensor.data.slice();
  for (const [i, value] of [NaN, Infinity, -Infinity].entries()) {
    data[Math.floor(((i + 0.5) * data.length) / 3)] = value;
  }
  return new Tensor(data, tensor.shape);
}

/** −Infinity in the whole of the first image, so that some windows and rows hold nothing else. */
function withNegativeInfinities(tensor: Tensor): Tensor {
  const data = tensor.data.slice();
  return new Tensor(data.fill(-Infinity, 0, data.length / (tensor.shape[0] as number)), tensor.shape);
}

async function runLast(backend: Backend, layers: ReturnType<typeof program>, x: Tensor, train = false, seed = 0) {
  const executable = await compileGenerated(backend, layers);
  const name = layers.at(-1)?.name as string;
  const [y] = await executable.run(x, { outputs: [name], mode: train ? 'train' : 'eval', seed });
  executable.dispose();
  return [...(y as Tensor).data];
}

describe.each([...BACKENDS])('on $name, against values worked out by hand', ({ create }) => {
  test('relu keeps NaN and +Infinity', async () => {
    const x = new Tensor(Float32Array.of(NaN, Infinity, -Infinity, -1, 0, 2), [1, 6]);
    expect(await runLast(await create(), program({ op: 'relu' }), x)).toEqual([NaN, Infinity, 0, 0, 0, 2]);
  });

  test('maxPool2d keeps NaN wherever it lies in the window, and starts at -Infinity', async () => {
    const windows = [[NaN, 1, 2, 3], [3, 2, 1, NaN], [1, NaN, Infinity, 2], Array(4).fill(-Infinity), [-4, -3, -2, -5]];
    const x = new Tensor(Float32Array.from(windows.flat()), [1, 5, 2, 2]);
    expect(await runLast(await create(), program({ op: 'maxPool2d' }), x)).toEqual([NaN, NaN, NaN, -Infinity, -2]);
  });

  test('maxPool2d leaves out the odd last row and column', async () => {
    const x = new Tensor(Float32Array.of(1, 2, 9, 4, 3, 9, 9, 9, 9), [1, 1, 3, 3]);
    expect(await runLast(await create(), program({ op: 'maxPool2d' }), x)).toEqual([4]);
  });

  test('adaptiveAvgPool2d averages overlapping cells, also where it grows', async () => {
    const x = new Tensor(Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9), [1, 1, 3, 3]);
    const pool = (outputSize: number) => program({ op: 'adaptiveAvgPool2d', outputSize });
    expect(await runLast(await create(), pool(2), x)).toEqual([3, 4, 6, 7]);
    const grown = new Tensor(Float32Array.of(1, 3), [1, 1, 1, 2]);
    expect(await runLast(await create(), pool(3), grown)).toEqual([1, 2, 3, 1, 2, 3, 1, 2, 3]);
  });

  test('softmax of large logits is finite, and NaN makes its own row NaN', async () => {
    const x = new Tensor(Float32Array.of(1000, 1000, NaN, 0, -Infinity, 5), [3, 2]);
    expect(await runLast(await create(), program({ op: 'softmax' }), x)).toEqual([0.5, 0.5, NaN, NaN, 0, 1]);
  });

  test('batchNorm2d in train mode: mean 2, variance 1, statistics a tenth of the way', async () => {
    const layers = program({ op: 'batchNorm2d', channels: 1 });
    async function* parameters() {
      for (const [key, value] of Object.entries({ weight: 2, bias: 1, running_mean: 0, running_var: 1 })) {
        yield { name: `batchNorm2d0.${key}`, offset: 0, data: Float32Array.of(value) };
      }
    }
    const executable = await (await create()).compile({ layers }, parameters());
    const x = new Tensor(Float32Array.of(1, 3, 1, 3), [2, 1, 1, 2]);
    const [y] = await executable.run(x, { outputs: ['batchNorm2d0'], mode: 'train', seed: 0 });
    for (const [i, expected] of [-1, 3, -1, 3].entries()) expect(y?.data[i]).toBeCloseTo(expected, 4);
    expect((await executable.readParameter('batchNorm2d0.running_mean'))[0]).toBeCloseTo(0.2, 6);
    // 0.9 · 1 + 0.1 · 4/3, the unbiased variance.
    expect((await executable.readParameter('batchNorm2d0.running_var'))[0]).toBeCloseTo(1.0333333, 6);
    executable.dispose();
  });

  test('batchNorm2d in train mode refuses one value a channel, as PyTorch does', async () => {
    const layers = program({ op: 'batchNorm2d', channels: 3 });
    const executable = await compileGenerated(await create(), layers);
    const run = (mode: 'eval' | 'train') =>
      executable.run(input([1, 3, 1, 1]), { outputs: ['batchNorm2d0'], mode, seed: 0 });
    await expect(run('train')).rejects.toMatchObject({
      code: 'INVALID_SHAPE',
      message: expect.stringContaining('more than 1 value per channel'),
    });
    await expect(run('eval')).resolves.toHaveLength(1);
    executable.dispose();
  });

  test('dropout drops by the hash of seed, layer and index, and scales the rest', async () => {
    // Layer 2 of the program; eval mode changes nothing.
    const layers = program({ op: 'relu' }, { op: 'relu' }, { op: 'dropout', p: 0.25 });
    const x = new Tensor(new Float32Array(1000).fill(3), [2, 5, 10, 10]);
    const kept = Math.fround(3 * Math.fround(1 / 0.75));
    const expected = [...x.data.keys()].map((i) => (dropoutHash(7, 2, i) / 2 ** 24 < 0.25 ? 0 : kept));
    expect(await runLast(await create(), layers, x, true, 7)).toEqual(expected);
    expect(await runLast(await create(), layers, x, false, 7)).toEqual([...x.data]);
  });

  test('dropout makes NaN of a dropped NaN or infinity; p = 1 gives zeros and p = 0 nothing', async () => {
    const x = new Tensor(Float32Array.of(NaN, Infinity, -Infinity, 4), [1, 4]);
    expect(await runLast(await create(), program({ op: 'dropout', p: 1 }), x, true)).toEqual([NaN, NaN, NaN, 0]);
    expect(await runLast(await create(), program({ op: 'dropout', p: 0 }), x, true)).toEqual([...x.data]);
  });
});

test('dropoutHash gives the numbers that the shared definition gives', () => {
  // Worked out with Python's integers.
  expect(dropoutHash(0, 0, 0)).toBe(0);
  expect([1, 2, 3].map((i) => dropoutHash(0, 0, i))).toEqual([6850960, 13701921, 5501417]);
  expect(dropoutHash(4294967295, 39, 4095)).toBe(5028452);
  expect(dropoutHash(1, 2, 12345678)).toBe(13574873);
  expect([0, 0.5, 1, 2 ** -25].map(dropoutThreshold)).toEqual([0, 2 ** 23, 2 ** 24, 1]);
});

describe.each([...FAST_BACKENDS])('on $name, beside the reference', ({ create }) => {
  describe.each([...CONV_SHAPES])('input (%i, %i → %i, %i, %i)', (N, C, OC, H, W) => {
    const conv = { op: 'conv2d', inChannels: C, outChannels: OC } as const;
    const x = input([N, C, H, W]);

    test('conv2d, also with NaN and infinities', async () => {
      using pair = await Pair.compile(await create(), program(conv));
      await pair.expectSame(x, SUM);
      await pair.expectSame(withSpecials(x), SUM);
    });

    test('conv2d and relu, fused and tapped between', async () => {
      using pair = await Pair.compile(await create(), program(conv, { op: 'relu' }));
      await pair.expectSame(x, SUM);
      await pair.expectSame(withSpecials(x), SUM);
      await pair.expectSame(x, { ...SUM, outputs: ['relu1', 'conv2d0'] });
    });

    test('conv2d, batchNorm2d, relu and maxPool2d, tapped anywhere', async () => {
      const chain = [conv, { op: 'batchNorm2d', channels: OC }, { op: 'relu' }] as const;
      const layers = H > 1 && W > 1 ? program(...chain, { op: 'maxPool2d' }) : program(...chain);
      const names = layers.map(({ name }) => name);
      using pair = await Pair.compile(await create(), layers);
      for (const name of names) await pair.expectSame(x, { ...CHAIN, outputs: [name] });
      await pair.expectSame(x, { ...CHAIN, outputs: names });
      await pair.expectSame(x, { ...CHAIN, outputs: [...names.toReversed(), 'conv2d0'] });
      await pair.expectSame(withSpecials(x), CHAIN);
    });
  });

  test.each(CONV_SHAPES.filter(([N, , , H, W]) => N * H * W >= 18))(
    'conv2d, batchNorm2d, relu and maxPool2d in train mode, (%i, %i → %i, %i, %i)',
    async (N, C, OC, H, W) => {
      const chain = [
        { op: 'conv2d', inChannels: C, outChannels: OC },
        { op: 'batchNorm2d', channels: OC },
        { op: 'relu' },
      ] as const;
      const layers = H > 1 && W > 1 ? program(...chain, { op: 'maxPool2d' }) : program(...chain);
      const options = { ...BATCH_STATISTICS, mode: 'train' } as const;
      await expectAsReference(await create(), layers, input([N, C, H, W]), options);
      const outputs = layers.map(({ name }) => name);
      await expectAsReference(await create(), layers, input([N, C, H, W]), { ...options, outputs });
    },
  );

  describe.each([...SIZES])('height %i', (H) => {
    test.each([...SIZES])('width %i: pools, batch norm, relu and flatten', async (W) => {
      const backend = await create();
      const inputs = POOLED.map(([N, C]) => input([N, C, H, W]));
      for (const op of ['relu', 'flatten', ...(H > 1 && W > 1 ? (['maxPool2d'] as const) : [])] as const) {
        using pair = await Pair.compile(backend, program({ op }));
        for (const x of inputs) {
          for (const values of [x, withSpecials(x), withNegativeInfinities(x)]) await pair.expectSame(values, EXACT);
        }
      }
      for (const outputSize of [1, 2, 7]) {
        using pair = await Pair.compile(backend, program({ op: 'adaptiveAvgPool2d', outputSize }));
        for (const x of inputs) for (const values of [x, withSpecials(x)]) await pair.expectSame(values, MEAN);
      }
      for (const [i, [N, channels]] of POOLED.entries()) {
        const x = inputs[i] as Tensor;
        const layers = program({ op: 'batchNorm2d', channels });
        using pair = await Pair.compile(backend, layers);
        for (const values of [x, withSpecials(x), withNegativeInfinities(x)]) await pair.expectSame(values, AFFINE);
        if (N * H * W < 18) continue;
        // Each from the same running statistics.
        const train = { ...BATCH_STATISTICS, mode: 'train' } as const;
        await pair.expectSame(x, train);
        await expectAsReference(backend, layers, withSpecials(x), train);
      }
    });
  });

  describe.each([...LINEAR_SIZES])('%i input features', (inFeatures) => {
    test.each([...LINEAR_SIZES])(
      '%i output features: linear alone, with relu, dropout, softmax',
      async (outFeatures) => {
        const backend = await create();
        const linear = { op: 'linear', inFeatures, outFeatures } as const;
        const inputs = [1, 2, 3, 9].map((N) => input([N, inFeatures]));
        {
          using pair = await Pair.compile(backend, program(linear));
          for (const x of inputs) await pair.expectSame(x, SUM);
        }
        {
          using pair = await Pair.compile(backend, program(linear, { op: 'relu' }));
          for (const x of inputs) await pair.expectSame(withSpecials(x), SUM);
        }
        const layers = program(linear, { op: 'relu' }, { op: 'dropout', p: 0.5 }, { op: 'softmax' });
        using pair = await Pair.compile(backend, layers);
        const outputs = ['dropout2', 'linear0', 'relu1'];
        for (const [seed, x] of inputs.entries()) {
          await pair.expectSame(x, { ...SUM, outputs });
          await pair.expectSame(x, { ...SUM, outputs, mode: 'train', seed });
          await pair.expectSame(x, { atol: 1e-6, rtol: 1e-4 });
        }
      },
    );
  });

  test.each([1, 3, 7, 31, 64, 100, 1000])('softmax of %i values', async (F) => {
    using pair = await Pair.compile(await create(), program({ op: 'softmax' }));
    for (const N of [1, 2, 3]) {
      const x = input([N, F]);
      for (const values of [x, withSpecials(x), withNegativeInfinities(x)]) await pair.expectSame(values, SOFTMAX);
    }
  });

  test.each([0, 0.1, 0.5, 0.999, 1])('dropout with p = %f drops the same values', async (p) => {
    const backend = await create();
    using alone = await Pair.compile(backend, program({ op: 'dropout', p }));
    using behind = await Pair.compile(backend, program({ op: 'relu' }, { op: 'dropout', p }));
    for (const shape of [
      [1, 1],
      [3, 31],
      [2, 100],
      [2, 5, 3, 7],
      [1, 17, 15, 14],
    ]) {
      const x = input(shape);
      for (const seed of [0, 1, 2 ** 31, 2 ** 32 - 1]) {
        const options = { ...EXACT, mode: 'train', seed } as const;
        await alone.expectSame(x, options);
        await behind.expectSame(withSpecials(x), options);
      }
    }
  });

  test.each([1, 2, 3])('a deep network, batch %i, tapped in many ways', async (N) => {
    const layers = program(
      { op: 'conv2d', inChannels: 3, outChannels: 7 },
      { op: 'relu' },
      { op: 'conv2d', inChannels: 7, outChannels: 16 },
      { op: 'batchNorm2d', channels: 16 },
      { op: 'relu' },
      { op: 'maxPool2d' },
      { op: 'conv2d', inChannels: 16, outChannels: 9 },
      { op: 'maxPool2d' },
      { op: 'adaptiveAvgPool2d', outputSize: 3 },
      { op: 'flatten' },
      { op: 'linear', inFeatures: 81, outFeatures: 31 },
      { op: 'dropout', p: 0.5 },
      { op: 'linear', inFeatures: 31, outFeatures: 7 },
      { op: 'softmax' },
    );
    const names = layers.map(({ name }) => name);
    const x = input([N, 3, 15, 22]);
    using pair = await Pair.compile(await create(), layers);
    // Training changes the running statistics, of both.
    for (const mode of ['eval', 'train'] as const) {
      await pair.expectSame(x, { ...CHAIN, mode });
      await pair.expectSame(x, { ...CHAIN, mode, outputs: names });
      // Every second layer must outlive the memory that its neighbours share.
      await pair.expectSame(x, { ...CHAIN, mode, outputs: names.filter((_, i) => i % 2 === 0) });
      await pair.expectSame(x, { ...CHAIN, mode, outputs: ['maxPool2d5', 'relu1'] });
    }
    await pair.expectSame(withSpecials(x), { ...CHAIN, outputs: names });
  });
});
