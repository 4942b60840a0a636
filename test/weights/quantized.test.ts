import { saveSafetensors, Tensor, VGGNet, type VGGNetErrorCode } from 'vggnet';
import { describe, expect, test } from 'vitest';
import { resolveConfig } from '../../src/model/config.js';
import { withStored } from '../../src/model/load.js';
import type { PrecisionOption } from '../../src/model/options.js';
import { createLayers } from '../../src/vgg.js';
import { openWeights } from '../../src/weights/open.js';
import type { WriteEntry, WriteValues } from '../../src/weights/write.js';
import { readAll } from './collect.js';
import { bytesOf, quantizedFile } from './quantized-file.js';

const LIST = [8, 'M', 16, 12, 'M'] as const;
const OPTIONS = { numClasses: 5, hiddenFeatures: 33, poolSize: 2, batchNorm: false, inline: true } as const;
const PRECISIONS: readonly PrecisionOption[] = [
  'fp16',
  'int8',
  'int4',
  { default: 'int8', fc: 'int4', conv1_1: 'fp32', fc8: 'fp16' },
];

describe.each(PRECISIONS)('a network with precision %j', (precision) => {
  test('is saved in fewer bytes and comes back as it was, on every backend', async () => {
    const model = await VGGNet.create(LIST, { ...OPTIONS, precision, seed: 3 });
    const x = Tensor.randn([2, 3, 16, 16], { seed: 1 });
    const logits = await model.forward(x);
    const file = await bytesOf(model.save());
    expect(file.length).toBeLessThan(0.6 * (await bytesOf((await VGGNet.create(LIST, OPTIONS)).save())).length);

    const again = await VGGNet.load(file, { inline: true });
    expect((await again.forward(x)).data).toEqual(logits.data);
    expect(await again.stateDict()).toEqual(await model.stateDict());
    expect(again.layers).toEqual(model.layers);
    expect(await bytesOf(again.save())).toEqual(file);

    // In float32 the file's weights are the same numbers, and activations are not rounded.
    const reference = await VGGNet.load(file, { device: 'reference' });
    expect(await reference.stateDict()).toEqual(await model.stateDict());
    const whole = await VGGNet.load(file, { inline: true, precision: 'fp32' });
    expect(await whole.stateDict()).toEqual(await model.stateDict());
    for (const one of [model, again, reference, whole]) one.dispose();
  });

  test('comes from a stream too, and by timm’s names', async () => {
    const model = await VGGNet.create(LIST, { ...OPTIONS, precision, seed: 4 });
    const file = await bytesOf(model.save());
    const streamed = await VGGNet.load(new Response(file).body as ReadableStream<Uint8Array>, { inline: true });
    expect(await streamed.stateDict()).toEqual(await model.stateDict());
    const timm = await VGGNet.load(await bytesOf(model.save({ naming: 'timm' })), { inline: true });
    expect(await timm.stateDict()).toEqual(await model.stateDict());
    expect(timm.layers.map((layer) => 'precision' in layer && layer.precision)).toEqual(
      model.layers.map((layer) => 'precision' in layer && layer.precision),
    );
    for (const one of [model, streamed, timm]) one.dispose();
  });
});

test('ranges of activations are kept in the file', async () => {
  const model = await VGGNet.create(LIST, { ...OPTIONS, seed: 5 });
  const inputs = [0, 1, 2].map((seed) => Tensor.randn([1, 3, 16, 16], { seed }));
  const inputRanges = await model.calibrate(inputs);
  expect(Object.keys(inputRanges)).toEqual(['conv2_1', 'conv2_2']);
  const largest = await model.features(inputs[0] as Tensor, ['pool1']);
  expect(inputRanges.conv2_1).toBeGreaterThan(0.5 * Math.max(...largest.pool1.data));
  const small = await VGGNet.create(LIST, { ...OPTIONS, seed: 5, precision: 'int8', inputRanges });
  const again = await VGGNet.load(await bytesOf(small.save()), { inline: true });
  expect(again.layers).toEqual(small.layers);
  expect((await again.forward(inputs[1] as Tensor)).data).toEqual((await small.forward(inputs[1] as Tensor)).data);
  for (const one of [model, small, again]) one.dispose();
});

test('layers say how they are stored, and the summary what that takes', async () => {
  const model = await VGGNet.create(LIST, { ...OPTIONS, precision: 'int4' });
  const stored = model.layers.flatMap((layer) => ('precision' in layer ? [[layer.name, layer.precision]] : []));
  expect(stored).toEqual([
    ...['conv1_1', 'conv2_1', 'conv2_2'].map((name) => [name, 'int8']),
    ...['fc6', 'fc7', 'fc8'].map((name) => [name, 'int4']),
  ]);
  const convs = 8 * (27 + 4) + 16 * (72 + 4) + 12 * (144 + 4);
  const linears = 33 * (24 + 2 * 2) + 33 * (17 + 2 * 2) + 5 * (17 + 2 * 2);
  expect(model.summary([1, 3, 16, 16]).parameterBytes).toBe(convs + linears + 4 * (8 + 16 + 12 + 33 + 33 + 5));
  model.dispose();
});

describe('bad input', () => {
  test.each([
    ['int2', 'got "int2"'],
    [{ fc: 'int9' }, 'got "int9"'],
    [{ fc9: 'int8' }, "no layer is called 'fc9'; nearest: fc"],
    [{ conv: 'int4' }, 'a convolution can be fp32, fp16 or int8, got int4'],
    [7, 'got 7'],
  ])('precision %j is refused', async (precision, message) => {
    await expect(VGGNet.create(LIST, { ...OPTIONS, precision: precision as 'int8' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining(message),
    });
  });

  test.each([{ conv9: 1 }, { conv2_1: -1 }, { conv2_1: Number.NaN }, { fc6: 1 }])(
    'inputRanges %j',
    async (inputRanges) => {
      await expect(VGGNet.create(LIST, { ...OPTIONS, inputRanges })).rejects.toMatchObject({
        code: 'INVALID_ARGUMENT',
      });
    },
  );

  test('a weight that is not finite names its layer, and nothing is made', async () => {
    const model = await VGGNet.create(LIST, OPTIONS);
    const state = await model.stateDict();
    (state.get('features.3.weight') as Tensor).data[700] = Number.NaN;
    const file = saveSafetensors(state);
    await expect(VGGNet.create(LIST, { ...OPTIONS, weights: file, precision: 'int8' })).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: "conv2_1: a weight of NaN can't be int8",
    });
    model.dispose();
  });

  test('a convolution in int4 is refused', async () => {
    const name = 'features.0.weight';
    const file = await quantizedFile({
      recipe: () => ({ [name]: { precision: 'int4', shape: [2, 3, 3, 3] } }),
      tensors: (all) => {
        all.clear();
        all.set(`${name}_scale`, [{ name: `${name}_scale`, shape: [2, 1], dtype: 'BF16' }, Float32Array.of(1, 1)]);
        all.set(name, [{ name, shape: [2, 14], dtype: 'U8' }, new Uint8Array(28).fill(0x88)]);
      },
    });
    const source = await openWeights(file);
    expect(() => withStored(createLayers(resolveConfig([2, 'M'])), source)).toThrow(
      expect.objectContaining({
        code: 'INVALID_WEIGHTS_FILE',
        message: "conv1_1: a convolution's weights can't be int4",
      }),
    );
    await source.close();
  });

  test('scales that a header only claims take no memory', async () => {
    const name = 'features.0.weight';
    const shape = [2 ** 28, 9];
    const header = JSON.stringify({
      __metadata__: { 'vggnet.precision': JSON.stringify({ [name]: { precision: 'int8', shape } }) },
      [`${name}_scale`]: { dtype: 'F32', shape: [2 ** 28], data_offsets: [0, 2 ** 30] },
      [name]: { dtype: 'I8', shape, data_offsets: [2 ** 30, 2 ** 30 + 9 * 2 ** 28] },
    });
    const bytes = new Uint8Array(8 + header.length);
    new DataView(bytes.buffer).setBigUint64(0, BigInt(header.length), true);
    bytes.set(new TextEncoder().encode(header), 8);
    const before = process.memoryUsage().arrayBuffers;
    const source = await openWeights(new Response(bytes).body as ReadableStream<Uint8Array>);
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(2 ** 24);
    await source.close();
  });

  test('a good one is read', async () => {
    const source = await openWeights(await quantizedFile({}));
    expect(source.entries.map(({ name, shape, dtype }) => [name, shape, dtype])).toEqual([
      ['a.weight', [2, 3], 'F32'],
      ['b.weight', [2, 3], 'F32'],
    ]);
    const values = await readAll(source);
    expect([...(values.get('a.weight') ?? [])]).toEqual([63.5, -63.5, 0, 2, 4, 254]);
    expect([...(values.get('b.weight') ?? [])]).toEqual([7, -7, 0, 0, 14, 0]);
  });

  const wrong: [string, Parameters<typeof quantizedFile>[0], string][] = [
    ['a recipe that is a list', { recipe: () => [] }, 'it must be an object'],
    [
      'an unknown precision',
      { recipe: (all) => ({ ...all, 'a.weight': { precision: 'int5', shape: [2, 3] } }) },
      'a.weight',
    ],
    [
      'a shape that is none',
      { recipe: (all) => ({ ...all, 'a.weight': { precision: 'int8', shape: [2, 0.5] } }) },
      'a.weight',
    ],
    [
      'another shape',
      { recipe: (all) => ({ ...all, 'b.weight': { precision: 'int4', shape: [2, 9] } }) },
      'expected U8 [2, 5]',
    ],
    [
      'a weight that is not there',
      { recipe: (all) => ({ ...all, c: { precision: 'int8', shape: [2, 3] } }) },
      'no such tensor',
    ],
    ['scales that are not there', { tensors: (all) => void all.delete('a.weight_scale') }, 'no such tensor'],
    [
      'scales of another type',
      {
        tensors: (all) =>
          void all.set('a.weight_scale', [{ name: 'a.weight_scale', shape: [2], dtype: 'F16' }, Float32Array.of(1, 1)]),
      },
      'expected F32 [2], got F16 [2]',
    ],
  ];
  test.each(wrong)('%s', async (_, change, message) => {
    await expect(openWeights(await quantizedFile(change))).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS_FILE' satisfies VGGNetErrorCode,
      message: expect.stringContaining(message),
    });
  });

  const values: [string, string, WriteValues, string][] = [
    ['a negative scale', 'a.weight_scale', Float32Array.of(1, -1), 'a scale of -1'],
    ['a scale that is NaN', 'a.weight_scale', Float32Array.of(1, Number.NaN), 'a scale of NaN'],
    ['-128 in int8', 'a.weight', Int8Array.of(0, -128, 0, 0, 0, 0), 'a value of -128'],
    ['-8 in int4', 'b.weight', Uint8Array.of(0x88, 0x08, 0x88, 0x88), 'a value of -8'],
  ];
  test.each(values)('%s, while it is read', async (_, name, data, message) => {
    const bytes = await quantizedFile({
      tensors: (all) => void all.set(name, [(all.get(name) as [WriteEntry, WriteValues])[0], data]),
    });
    await expect(readAll(await openWeights(bytes))).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS_FILE',
      message: expect.stringContaining(message),
    });
  });
});
