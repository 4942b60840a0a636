import { createHash } from 'node:crypto';
import {
  type Architecture,
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
import { resolveConfig } from '../src/model/config.js';
import { summarize } from '../src/model/summary.js';
import { parametersOf } from '../src/program/layers.js';
import { createLayers } from '../src/vgg.js';
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
    expect(model.device).toMatchObject({ backend: device === 'reference' ? 'reference' : 'wasm' });
    expect(model.device.threads).toBeGreaterThanOrEqual(1);
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
    expect(table[0]).toMatch(/^layer +operation +output shape +parameters +multiply-accumulates +Winograd +output$/);
    expect(table.find((line) => line.startsWith('fc6 '))).toMatch(/linear +\[1, 32\] +25,120 +25,088 +0.0 MiB$/);
    const rules = table.filter((line) => /^-+$/.test(line));
    expect(rules).toHaveLength(2);
    const rows = table.slice(2, table.lastIndexOf(rules[0] as string));
    expect(rows).toHaveLength(model.layers.length);
    expect(new Set(rows.map((row) => row.length))).toEqual(new Set([(rules[0] as string).length]));
    expect(lines.slice(-4).join('\n')).toContain(model.parameters.toLocaleString('en-US'));
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

function bytesIn({ data }: Tensor): Uint8Array {
  return new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
}
