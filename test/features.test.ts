import { CAFFE_PRESET, Tensor, VGGNet } from 'vggnet';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectClose } from './support/close.js';
import { NETWORK_TOLERANCE } from './support/golden.js';
import { bitsOf, createSmall, smallInput } from './support/small.js';

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
      ['fc8', 'classifier.6', 'fcs.6', 'logits'],
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
