import { createHash } from 'node:crypto';
import {
  type Architecture,
  CAFFE_PRESET,
  type CreateOptions,
  MODEL_NAMES,
  type ModelName,
  Tensor,
  VGG_TYPES,
  VGGNet,
  vgg11,
  vgg11_bn,
  vgg13,
  vgg13_bn,
  vgg16,
  vgg16_bn,
  vgg19,
  vgg19_bn,
} from 'vggnet';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { resolveConfig } from '../src/config.js';
import { createLayers, parametersOf } from '../src/layers.js';
import { summarize } from '../src/summary.js';
import { expectClose } from './support/close.js';
import { NETWORK_TOLERANCE, readGolden } from './support/golden.js';
import { bitsOf, createSmall, imageOf, LIST, OPTIONS, smallInput } from './support/small.js';

/** What the paper's readers know: the parameters, and 10⁹ multiply-accumulates at 224×224. */
const PUBLISHED: Record<ModelName, readonly [parameters: number, gmacs: number]> = {
  vgg11: [132_863_336, 7.61],
  vgg13: [133_047_848, 11.31],
  vgg16: [138_357_544, 15.47],
  vgg19: [143_667_240, 19.63],
  vgg11_bn: [132_868_840, 7.61],
  vgg13_bn: [133_053_736, 11.31],
  vgg16_bn: [138_365_992, 15.47],
  vgg19_bn: [143_678_248, 19.63],
};

interface StateDict {
  readonly name: ModelName;
  readonly parameters: number;
  readonly sha256: string;
  /** Of two of them: `features.0.weight 64x3x3x3` and so on. */
  readonly lines?: readonly string[];
}

describe('the family', () => {
  test('VGG_TYPES are the configurations A, B, D and E of the paper', () => {
    const blocks = (list: Architecture): string => list.join(' ').replaceAll(' M', ' |');
    expect(Object.fromEntries(Object.entries(VGG_TYPES).map(([name, list]) => [name, blocks(list)]))).toEqual({
      VGG11: '64 | 128 | 256 256 | 512 512 | 512 512 |',
      VGG13: '64 64 | 128 128 | 256 256 | 512 512 | 512 512 |',
      VGG16: '64 64 | 128 128 | 256 256 256 | 512 512 512 | 512 512 512 |',
      VGG19: '64 64 | 128 128 | 256 256 256 256 | 512 512 512 512 | 512 512 512 512 |',
    });
  });

  test.each([...MODEL_NAMES])('%s has the published parameters and multiply-accumulates', (name) => {
    const config = resolveConfig(name);
    const { parameters, macs } = summarize(config, createLayers(config), [1, 3, 224, 224]);
    const [expected, gmacs] = PUBLISHED[name];
    expect(parameters).toBe(expected);
    expect((macs / 1e9).toFixed(2)).toBe(gmacs.toFixed(2));
  });

  test.each(readGolden<StateDict>('state-dict'))('$name has torchvision’s state dict', (golden) => {
    const specs = createLayers(resolveConfig(golden.name)).flatMap(parametersOf);
    const lines = specs.map(({ name, shape }) => `${name} ${shape.join('x')}`);
    if (golden.lines) expect(lines).toEqual(golden.lines);
    expect(createHash('sha256').update(lines.join('\n')).digest('hex')).toBe(golden.sha256);
    expect(golden.parameters).toBe(PUBLISHED[golden.name][0]);
  });

  test.each(['vgg16', 'VGG16', 'Vgg16_BN', 'VGG19_bn'])('%s is known in any case', (name) => {
    expect(resolveConfig(name).name).toBe(name.toLowerCase());
    expect(resolveConfig(name).batchNorm).toBe(/bn/i.test(name));
  });

  test.each(Object.entries({ vgg11, vgg13, vgg16, vgg19, vgg11_bn, vgg13_bn, vgg16_bn, vgg19_bn }))(
    '%s() builds the network of that name, with options',
    async (name, build) => {
      const options: CreateOptions = { numClasses: 2, hiddenFeatures: 4, poolSize: 1, inChannels: 1 };
      using model = await build(options);
      expect(model.config).toMatchObject({ name, ...options, batchNorm: name.endsWith('_bn') });
      expect(model.parameters).toBe(
        createLayers(resolveConfig(name, options))
          .flatMap(parametersOf)
          .filter(({ learned }) => learned)
          .reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b), 0),
      );
    },
  );
});

describe('a list and its options', () => {
  test('are taken as they are given, and later changes of the list do nothing', async () => {
    const list: (number | 'M')[] = [4, 6, 'M'];
    using model = await VGGNet.create(list, {
      inChannels: 2,
      numClasses: 7,
      batchNorm: false,
      dropout: 0.25,
      hiddenFeatures: 9,
      poolSize: 3,
    });
    list.push(5);
    expect(model.config).toMatchObject({ name: 'vgg', architecture: [4, 6, 'M'], batchNorm: false, dropout: 0.25 });
    expect(model.layers.map((layer) => layer.name).join(' ')).toBe(
      'conv1_1 relu1_1 conv1_2 relu1_2 pool1 avgpool flatten fc6 relu6 drop6 fc7 relu7 drop7 fc8 prob',
    );
    expect(model.parameters).toBe(4 * 18 + 4 + (6 * 36 + 6) + (9 * 54 + 9) + (9 * 9 + 9) + (7 * 9 + 7));
    expect((await model.forward(Tensor.randn([1, 2, 6, 10]))).shape).toEqual([1, 7]);
  });

  test('a list has batch norm unless it is told not to, as in the lesson', () => {
    expect(resolveConfig(LIST).batchNorm).toBe(true);
    expect(resolveConfig(LIST, { batchNorm: false }).batchNorm).toBe(false);
    expect(resolveConfig('vgg16', { batchNorm: true }).batchNorm).toBe(true);
    expect(resolveConfig('vgg16_bn', { batchNorm: false }).batchNorm).toBe(false);
  });

  test('undefined is the default', () => {
    const options = { inChannels: undefined, numClasses: undefined, batchNorm: undefined, dropout: undefined };
    expect(resolveConfig('vgg16', options as never)).toEqual(resolveConfig('vgg16'));
  });

  test('a network without pools, and one that begins with a pool', async () => {
    using flat = await VGGNet.create([4], OPTIONS);
    expect((await flat.forward(Tensor.randn([2, 3, 1, 1]))).shape).toEqual([2, 10]);
    using pooled = await VGGNet.create(['M', 'M', 4], OPTIONS);
    expect((await pooled.forward(Tensor.randn([1, 3, 4, 4]))).shape).toEqual([1, 10]);
  });

  test.each(['wasm', 'reference', 'auto'] as const)('device %s says what it is and why', async (device) => {
    using model = await createSmall({ device });
    expect(model.device).toMatchObject({ backend: device === 'reference' ? 'reference' : 'wasm', threads: 1 });
    expect(model.device.reason).toContain(device);
    expect(model.device.build).toMatch(device === 'reference' ? /^$/ : /simd/);
  });

  test('`using` disposes of it, in both forms', async () => {
    let kept: VGGNet;
    {
      using model = await createSmall();
      kept = model;
    }
    await expect(kept.forward(smallInput())).rejects.toMatchObject({ code: 'DISPOSED' });
    {
      await using model = await createSmall({ inline: true });
      kept = model;
    }
    await expect(kept.forward(smallInput())).rejects.toMatchObject({ code: 'DISPOSED' });
  });
});

describe('summary', () => {
  let model: VGGNet;
  beforeAll(async () => {
    model = await VGGNet.create([8, 'M', 16, 'M'], { numClasses: 10, hiddenFeatures: 32 });
  });
  afterAll(() => model.dispose());

  test('gives every layer its shape, parameters and multiply-accumulates', () => {
    const { layers, ...total } = model.summary([2, 3, 30, 21]);
    expect(layers.map(({ name, outputShape }) => `${name} ${outputShape.join('x')}`)).toEqual([
      ...['conv1_1 2x8x30x21', 'bn1_1 2x8x30x21', 'relu1_1 2x8x30x21', 'pool1 2x8x15x10'],
      ...['conv2_1 2x16x15x10', 'bn2_1 2x16x15x10', 'relu2_1 2x16x15x10', 'pool2 2x16x7x5'],
      ...['avgpool 2x16x7x7', 'flatten 2x784', 'fc6 2x32', 'relu6 2x32', 'drop6 2x32', 'fc7 2x32', 'relu7 2x32'],
      ...['drop7 2x32', 'fc8 2x10', 'prob 2x10'],
    ]);
    const of = (name: string): unknown => layers.find((layer) => layer.name === name);
    expect(of('conv2_1')).toMatchObject({
      path: 'features.4',
      parameters: 16 * 8 * 9 + 16,
      macs: 2 * 16 * 15 * 10 * 8 * 9,
      outputBytes: 2 * 16 * 15 * 10 * 4,
    });
    expect(of('bn2_1')).toMatchObject({ parameters: 32, macs: 0 });
    expect(of('fc6')).toMatchObject({ path: 'classifier.0', parameters: 784 * 32 + 32, macs: 2 * 784 * 32 });
    expect(total.inputShape).toEqual([2, 3, 30, 21]);
    expect(total.parameters).toBe(model.parameters);
    expect(total.macs).toBe(layers.reduce((sum, { macs }) => sum + macs, 0));
    // Two running statistics for each of 24 channels.
    expect(total.parameterBytes).toBe((model.parameters + 2 * 24) * 4);
    expect(total.activationBytes).toBe(2 * (2 * 8 * 30 * 21) * 4);
  });

  test('prints a table whose columns line up, with the totals', () => {
    const lines = String(model.summary()).split('\n');
    expect(lines[0]).toBe('vgg, input [1, 3, 224, 224]');
    const table = lines.slice(lines.indexOf('') + 1);
    expect(table[0]).toMatch(/^layer +operation +output shape +parameters +multiply-accumulates +output$/);
    expect(table.find((line) => line.startsWith('fc6 '))).toMatch(/linear +\[1, 32\] +25,120 +25,088 +0.0 MiB$/);
    const rules = table.filter((line) => /^-+$/.test(line));
    expect(rules).toHaveLength(2);
    const rows = table.slice(2, table.lastIndexOf(rules[0] as string));
    expect(rows).toHaveLength(model.layers.length);
    expect(new Set(rows.map((row) => row.length))).toEqual(new Set([(rules[0] as string).length]));
    expect(lines.slice(-3).join('\n')).toContain(model.parameters.toLocaleString('en-US'));
  });

  test('defaults to the preset’s size, and to the least that the pools allow', async () => {
    using glyphs = await VGGNet.create('glyphs');
    expect(glyphs.summary().inputShape).toEqual([1, 1, 32, 32]);
    using deep = await VGGNet.create([4, ...new Array<'M'>(9).fill('M')], { ...OPTIONS, inChannels: 2 });
    expect(deep.summary().inputShape).toEqual([1, 2, 512, 512]);
  });
});

describe('sizes and batches', () => {
  test('224×224 equals a plain flatten: the average pool is then the identity, to the bit', async () => {
    // Five pools, as the named networks have.
    using model = await VGGNet.create([4, 'M', 4, 'M', 4, 'M', 4, 'M', 6, 'M'], { numClasses: 10, hiddenFeatures: 16 });
    const { pool5, avgpool, flatten } = await model.features(Tensor.randn([2, 3, 224, 224]), [
      'pool5',
      'avgpool',
      'flatten',
    ]);
    expect(pool5.shape).toEqual([2, 6, 7, 7]);
    expect(bitsOf(avgpool)).toEqual(bitsOf(pool5));
    expect(flatten.shape).toEqual([2, 6 * 7 * 7]);
    expect(bitsOf(flatten)).toEqual(bitsOf(pool5));
  });

  test.each([
    [4, 4],
    [4, 5],
    [7, 4],
    [5, 31],
    [33, 6],
  ])('%i×%i, from exactly 2^pools up, as the reference computes it', async (height, width) => {
    const x = Tensor.randn([3, 3, height, width], { seed: 5 });
    using model = await createSmall();
    using reference = await createSmall({ device: 'reference' });
    const { data, shape } = await model.forward(x);
    expect(shape).toEqual([3, 10]);
    expectClose(data, (await reference.forward(x)).data, { ...NETWORK_TOLERANCE, what: `${height}×${width}`, shape });
  });

  /**
   * For one image the classifier is a matrix–vector product, which sums in another order than a batch's product of
   * matrices: float32 rounding of sums of at most 100 values of about 1.
   */
  const ROUNDING = { atol: 1e-6, rtol: 1e-6 };

  test.each([
    { inline: false, deterministic: true },
    { inline: true, deterministic: true },
    { inline: false, deterministic: false },
    { inline: true, deterministic: false },
  ])('a batch of 5 equals five single forwards and smaller batches: $inline $deterministic', async (options) => {
    using model = await createSmall(options);
    const x = smallInput(5);
    const whole = await model.features(x, ['avgpool', 'fc8']);
    for (let i = 0; i < 5; i++) {
      const single = await model.features(imageOf(x, i), ['avgpool', 'fc8']);
      expect(bitsOf(single.avgpool), `image ${i}`).toEqual(bitsOf(imageOf(whole.avgpool, i)));
      expectClose(single.fc8.data, imageOf(whole.fc8, i).data, { ...ROUNDING, what: `image ${i}` });
    }
    const pair = new Tensor(x.data.slice(0, (2 * x.size) / 5), [2, ...x.shape.slice(1)]);
    expect(bitsOf(await model.forward(pair))).toEqual(bitsOf(whole.fc8).slice(0, 2 * 10));
  });

  test.each([false, true])('a batch that is run in parts equals single forwards, inline %s', async (inline) => {
    // 300 × 300 × 24 channels, there and back, is 17 MiB an image: parts of three, and a last one of one.
    using model = await VGGNet.create([24, 24, 'M', 4], { ...OPTIONS, inline, deterministic: true });
    const x = Tensor.randn([7, 3, 300, 300], { seed: 3 });
    const { relu1_2, prob } = await model.features(x, ['relu1_2', 'prob']);
    for (const i of [0, 2, 3, 6]) {
      const single = await model.features(imageOf(x, i), ['relu1_2', 'prob']);
      expect(Buffer.compare(bytesIn(imageOf(relu1_2, i)), bytesIn(single.relu1_2)), `relu1_2 of image ${i}`).toBe(0);
      expectClose(single.prob.data, imageOf(prob, i).data, { ...ROUNDING, what: `prob of image ${i}` });
    }
  });

  test('worker and inline are the same to the bit, and relaxed SIMD is within tolerance', async () => {
    const x = smallInput(3);
    using worker = await createSmall({ deterministic: true });
    using inline = await createSmall({ deterministic: true, inline: true });
    using relaxed = await createSmall();
    expect([worker.device.inline, inline.device.inline]).toEqual([false, true]);
    expect([worker.device.build, relaxed.device.build]).toEqual(['simd', 'relaxed-simd']);
    const expected = await worker.forward(x);
    expect(bitsOf(await inline.forward(x))).toEqual(bitsOf(expected));
    const what = 'relaxed-simd against simd';
    expectClose((await relaxed.forward(x)).data, expected.data, { ...NETWORK_TOLERANCE, what, shape: expected.shape });
  });

  test('the same seed makes the same weights everywhere, and another seed others', async () => {
    const x = smallInput();
    const logits = async (seed: number): Promise<number[]> => {
      using model = await createSmall({ deterministic: true, seed });
      return bitsOf(await model.forward(x));
    };
    expect(await logits(7)).toEqual(await logits(7));
    expect(await logits(7)).not.toEqual(await logits(8));
  });
});

interface LessonCase {
  readonly architecture: Architecture;
  readonly options: CreateOptions;
  readonly seed: number;
  readonly inputSeed: number;
  readonly shape: readonly number[];
  readonly eval: readonly number[];
  /** Of the whole batch, and then of its first two images. */
  readonly train: readonly [readonly number[], readonly number[]];
  readonly buffers: Readonly<Record<string, readonly number[]>>;
  readonly evalAfter: readonly number[];
}

describe.each(readGolden<LessonCase>('lesson'))('the lesson’s model of $architecture, from its seed', (golden) => {
  const { architecture, options, seed } = golden;
  const create = (): Promise<VGGNet> =>
    VGGNet.create(architecture, { ...options, seed, dropout: 0, deterministic: true });
  const x = (): Tensor => Tensor.randn(golden.shape, { seed: golden.inputSeed });

  test('gives PyTorch’s logits', async () => {
    using model = await create();
    const logits = await model.forward(x());
    expectClose(logits.data, golden.eval, { ...NETWORK_TOLERANCE, what: 'eval', shape: logits.shape });
  });

  test('in train mode uses the batch’s statistics and moves the running ones, as PyTorch does', async () => {
    using model = await create();
    expect(model.training).toBe(false);
    expect(model.train()).toBe(model);
    expect(model.training).toBe(true);
    const input = x();
    const first = new Tensor(input.data.slice(0, input.size / 2), [2, ...input.shape.slice(1)]);
    for (const [i, batch] of [input, first].entries()) {
      const { data, shape } = await model.forward(batch);
      expectClose(data, golden.train[i] as number[], { ...NETWORK_TOLERANCE, what: `train, forward ${i}`, shape });
    }
    const state = await model.stateDict({ naming: 'lesson' });
    expect([...state.keys()].filter((name) => name.includes('running'))).toEqual(Object.keys(golden.buffers));
    for (const [name, values] of Object.entries(golden.buffers)) {
      expectClose((state.get(name) as Tensor).data, values, { atol: 1e-6, rtol: 1e-5, what: name });
    }
    expect(model.eval()).toBe(model);
    const after = await model.forward(input);
    expectClose(after.data, golden.evalAfter, { ...NETWORK_TOLERANCE, what: 'eval after train', shape: after.shape });
  });
});

describe.each(['wasm', 'reference'] as const)('train mode on %s', (device) => {
  const create = (options: CreateOptions = {}): Promise<VGGNet> =>
    createSmall({ device, batchNorm: false, deterministic: true, hiddenFeatures: 400, ...options });

  test('dropout drops half, scales the rest, and drops other values in every forward', async () => {
    using model = await create({ dropout: 0.5 });
    model.train();
    const x = smallInput(4);
    const masks: string[] = [];
    for (let i = 0; i < 3; i++) {
      const { relu6, drop6 } = await model.features(x, ['relu6', 'drop6']);
      let live = 0;
      let dropped = 0;
      for (const [at, value] of relu6.data.entries()) {
        const out = drop6.data[at] as number;
        if (value === 0) continue;
        live++;
        if (out === 0) dropped++;
        else expect(out).toBe(2 * value);
      }
      // A binomial deviation of about 0.018: six of them.
      expect(Math.abs(dropped / live - 0.5)).toBeLessThan(0.11);
      masks.push([...drop6.data].map((value) => (value === 0 ? '0' : '1')).join(''));
    }
    expect(new Set(masks).size).toBe(3);
  });

  test('the same seed drops the same, another seed or a later forward does not', async () => {
    const x = smallInput();
    const runs = async (seed: number): Promise<number[][]> => {
      // The same weights, so that only dropout differs.
      using source = await create({ seed: 1 });
      using model = await create({ seed, weights: await new Response(source.save() as never).arrayBuffer() });
      model.train();
      const all: number[][] = [];
      for (let i = 0; i < 3; i++) all.push(bitsOf(await model.forward(x)));
      return all;
    };
    const [first, again, next] = [await runs(5), await runs(5), await runs(6)];
    expect(again).toEqual(first);
    // Also not the same ones moved by one, as seeds that are near might give.
    expect(new Set([...first, ...next].map(String)).size).toBe(6);
  });

  test('eval mode drops nothing, dropout 0 neither, and dropout 1 all', async () => {
    const x = smallInput();
    using model = await create({ dropout: 1 });
    const { relu7, drop7 } = await model.features(x, ['relu7', 'drop7']);
    expect(bitsOf(drop7)).toEqual(bitsOf(relu7));
    model.train();
    const dropped = await model.features(x, ['drop7', 'fc8']);
    expect(dropped.drop7.data.every((value) => value === 0)).toBe(true);
    const bias = (await model.stateDict()).get('classifier.6.bias') as Tensor;
    expect([...dropped.fc8.data]).toEqual([...bias.data]);
    using none = await create({ dropout: 0 });
    const plain = bitsOf(await none.forward(x));
    expect(bitsOf(await none.train().forward(x))).toEqual(plain);
  });

  test('train(false) is eval(), and a forward keeps the mode in which it began', async () => {
    using model = await create();
    const x = smallInput();
    const plain = bitsOf(await model.forward(x));
    expect(model.train().train(false).training).toBe(false);
    const inEval = model.forward(x);
    const inTrain = model.train().forward(x);
    model.eval();
    expect(bitsOf(await inEval)).toEqual(plain);
    expect(bitsOf(await inTrain)).not.toEqual(plain);
  });
});

test('batch norm’s running statistics stay in eval mode, and move in train mode with each batch', async () => {
  using model = await createSmall();
  const running = async (): Promise<number[]> => {
    const state = await model.stateDict();
    return [...state].filter(([name]) => name.includes('running')).flatMap(([, { data }]) => [...data]);
  };
  const before = await running();
  await model.forward(smallInput(2));
  expect(await running()).toEqual(before);
  model.train();
  await model.forward(smallInput(2));
  const after = await running();
  expect(after).not.toEqual(before);
  await model.forward(smallInput(2));
  expect(await running()).not.toEqual(after);
});

describe('features', () => {
  let model: VGGNet;
  beforeAll(async () => {
    model = await createSmall({ deterministic: true });
  });
  afterAll(() => model.dispose());

  test('takes the names of papers, of torchvision’s modules and of the lesson’s', async () => {
    const same = [
      ['conv2_1', 'features.4', 'conv_layers.4'],
      ['bn2_1', 'features.5', 'conv_layers.5'],
      ['relu2_1', 'features.6', 'conv_layers.6'],
      ['pool2', 'features.7', 'conv_layers.7'],
      ['fc6', 'classifier.0', 'fcs.0'],
      ['relu7', 'classifier.4', 'fcs.4'],
      ['fc8', 'classifier.6', 'fcs.6'],
    ];
    const x = smallInput();
    const outputs = await model.features(x, same.flat());
    for (const names of same) {
      for (const name of names)
        expect(bitsOf(outputs[name] as Tensor), name).toEqual(bitsOf(outputs[names[0] as string] as Tensor));
      // Asked for alone, where more may be fused before it.
      const alone = await model.features(x, [names[1] as string]);
      const what = `${names[1]} alone`;
      expectClose((alone[names[1] as string] as Tensor).data, (outputs[names[0] as string] as Tensor).data, {
        ...NETWORK_TOLERANCE,
        what,
      });
    }
  });

  test('gives every layer’s output with the shape that summary states, in any order', async () => {
    const x = smallInput(2);
    const names = model.layers.map((layer) => layer.name).reverse();
    const outputs = await model.features(x, names);
    expect(Object.keys(outputs)).toEqual(names);
    for (const { name, outputShape } of model.summary(x.shape).layers) {
      expect((outputs[name] as Tensor).shape, name).toEqual(outputShape);
    }
    // Where all layers are asked for none is fused: batch norm is not folded into the convolution's sums.
    expectClose((outputs.fc8 as Tensor).data, (await model.forward(x)).data, { ...NETWORK_TOLERANCE, what: 'fc8' });
    const sum = (outputs.prob as Tensor).data.slice(0, 10).reduce((a, b) => a + b);
    expect(Math.abs(sum - 1)).toBeLessThan(1e-6);
    expect(Math.min(...(outputs.relu2_1 as Tensor).data)).toBe(0);
    expect(Math.min(...(outputs.conv2_1 as Tensor).data)).toBeLessThan(0);
  });

  test('a layer asked for twice comes as tensors of its own', async () => {
    const { relu1_1, 'features.2': again } = await model.features(smallInput(), ['relu1_1', 'features.2', 'relu1_1']);
    expect(bitsOf(again)).toEqual(bitsOf(relu1_1));
    again.data.fill(-1);
    expect(Math.min(...relu1_1.data)).toBe(0);
  });

  test('layers after the last one asked for are not run: their input need not fit', async () => {
    const tiny = Tensor.randn([1, 3, 1, 1]);
    await expect(model.forward(tiny)).rejects.toMatchObject({ code: 'INVALID_SHAPE' });
    expect((await model.features(tiny, ['relu1_1'])).relu1_1.shape).toEqual([1, 8, 1, 1]);
  });
});

describe('classify', () => {
  const image = new URL('../examples/images/glyph-A.png', import.meta.url);
  const other = new URL('../examples/images/glyph-7-inverted.png', import.meta.url);
  let glyphs: VGGNet;
  beforeAll(async () => {
    glyphs = await VGGNet.create('glyphs', { deterministic: true });
  });
  afterAll(() => glyphs.dispose());

  test('an image file by URL and path, its preprocessed tensor and its pixels', async () => {
    const best = await glyphs.classify(image);
    expect(best).toHaveLength(5);
    expect(best[0]).toMatchObject({ label: 'A', index: 10 });
    expect(best[0]?.probability).toBeGreaterThan(0.9);
    expect(best.map(({ probability }) => probability)).toEqual(
      best.map(({ probability }) => probability).toSorted((a, b) => b - a),
    );
    expect(await glyphs.classify(image.pathname)).toEqual(best);
    expect(await glyphs.classify(await glyphs.preprocess(image))).toEqual(best);
    const { data, info } = await (await import('sharp'))
      .default(image.pathname)
      .ensureAlpha()
      .toColourspace('srgb')
      .raw()
      .toBuffer({ resolveWithObject: true });
    expect(info.channels).toBe(4);
    const { width, height } = info;
    expect(await glyphs.classify({ data: new Uint8ClampedArray(data), width, height })).toEqual(best);
  });

  test('a list gives a list, in order, and an empty one an empty one', async () => {
    const [a, seven] = [await glyphs.classify(image), await glyphs.classify(other)];
    expect(seven[0]?.label).toBe('7');
    expect(await glyphs.classify([other, await glyphs.preprocess(image), image])).toEqual([seven, a, a]);
    expect(await glyphs.classify([])).toEqual([]);
  });

  test('topK: all classes make 1, and no more than there are', async () => {
    const all = await glyphs.classify(image, { topK: 36 });
    expect(new Set(all.map(({ label }) => label)).size).toBe(36);
    expect(Math.abs(all.reduce((sum, { probability }) => sum + probability, 0) - 1)).toBeLessThan(1e-6);
    expect(await glyphs.classify(image, { topK: 1 })).toEqual(all.slice(0, 1));
    using two = await createSmall({ numClasses: 2 });
    expect(await two.classify(smallInput())).toHaveLength(2);
  });

  test('labels: given, ImageNet’s for 1000 classes, numbered otherwise', async () => {
    using named = await createSmall({ numClasses: 2, labels: ['cat', 'dog'] });
    expect((await named.classify(smallInput())).map(({ label }) => label).sort()).toEqual(['cat', 'dog']);
    using imagenet = await createSmall({ numClasses: 1000 });
    expect((await imagenet.labels()).slice(0, 3)).toEqual(['tench', 'goldfish', 'great white shark']);
    using numbered = await createSmall({ numClasses: 3 });
    expect(await numbered.labels()).toEqual(['class 0', 'class 1', 'class 2']);
  });

  test('the preset is an option: caffe’s is BGR with the mean taken off', async () => {
    using rgb = await createSmall();
    using caffe = await createSmall({ preset: CAFFE_PRESET });
    const red = {
      data: Uint8Array.from({ length: 4 * 4 * 3 }, (_, i) => (i % 3 === 0 ? 200 : 10)),
      width: 4,
      height: 4,
      channels: 3 as const,
    };
    const pixel = (tensor: Tensor): number[] => [0, 1, 2].map((c) => tensor.data[c * 224 * 224] as number);
    const close = (actual: number[], expected: number[], what: string): void =>
      expectClose(actual, expected, { atol: 1e-4, rtol: 1e-6, what });
    close(pixel(await caffe.preprocess(red)), [10 - 103.939, 10 - 116.779, 200 - 123.68], 'caffe');
    const normal = (value: number, mean: number, std: number): number => (value / 255 - mean) / std;
    close(
      pixel(await rgb.preprocess(red)),
      [normal(200, 0.485, 0.229), normal(10, 0.456, 0.224), normal(10, 0.406, 0.225)],
      'torchvision',
    );
    expect(await caffe.classify(red)).not.toEqual(await rgb.classify(red));
  });

  test('every kind of network that takes images has a preset for its channels', async () => {
    using grey = await createSmall({ inChannels: 1 });
    expect((await grey.preprocess(image)).shape).toEqual([1, 1, 224, 224]);
    using four = await createSmall({ inChannels: 4 });
    await expect(four.preprocess(image)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect((await four.classify(Tensor.randn([1, 4, 8, 8]))).length).toBe(5);
  });
});

function bytesIn({ data }: Tensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
