import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { PretrainedSet } from '../../src/hub/catalog.js';
import {
  type DeviceName,
  type ImagePreset,
  type PretrainedOptions,
  type PretrainedProgress,
  saveSafetensors,
  Tensor,
  VGGNet,
} from '../../src/index.js';
import { fixture } from '../weights/fixtures.js';
import { contents, newFolder, removeFolder } from './folder.js';
import { randomFile, send, serveWeights, sha256, type WeightServer } from './server.js';

const SHAPE = { inChannels: 3, numClasses: 5, hiddenFeatures: 8, poolSize: 2, batchNorm: false } as const;
const LIST = [4, 'M', 6, 6, 'M'] as const;
const PRESET: ImagePreset = {
  mode: 'RGB',
  resize: null,
  crop: 8,
  scale: 1 / 255,
  mean: [0.4, 0.5, 0.6],
  std: [1, 1, 1],
};
const INPUT = Tensor.randn([1, 3, 9, 11], { seed: 3 });

let original: VGGNet;
let whole: Buffer;
/** As `VGG16_Weights.IMAGENET1K_FEATURES` is: the classifier is NaN. */
let features: Buffer;
let folder: string;
let server: WeightServer;

beforeAll(async () => {
  original = await VGGNet.create(LIST, { ...SHAPE, seed: 7, device: 'reference' });
  whole = Buffer.from(await new Response(original.save()).arrayBuffer());
  const state = await original.stateDict();
  for (const [name, { data }] of state) if (name.startsWith('classifier.')) data.fill(Number.NaN);
  features = Buffer.from(await new Response(saveSafetensors(state)).arrayBuffer());
});
afterAll(() => original.dispose());
beforeEach(async () => {
  folder = await newFolder();
  server = await serveWeights((request, response) =>
    send(request, response, request.url === '/features.safetensors' ? features : whole),
  );
});
afterEach(async () => {
  await server.close();
  await removeFolder(folder);
});

function set(more: Partial<PretrainedSet> = {}): PretrainedSet {
  return {
    name: 'small#TEST',
    model: LIST,
    classifier: true,
    classes: undefined,
    preset: PRESET,
    top1: undefined,
    top5: undefined,
    licence: 'MIT',
    source: 'https://example.org',
    files: [server.file(whole)],
    ...more,
  };
}

function featureSet(): PretrainedSet {
  const file = server.file(features, { name: 'features.safetensors', url: `${server.url}/features.safetensors` });
  return set({ classifier: false, files: [file] });
}

function load(from: string | PretrainedSet, options: PretrainedOptions = {}): Promise<VGGNet> {
  return VGGNet.fromPretrained(from, { ...SHAPE, cacheDir: folder, retries: 0, device: 'reference', ...options });
}

async function expectSame(actual: Tensor, expected: Tensor): Promise<void> {
  expect(actual.shape).toEqual(expected.shape);
  expect(Buffer.compare(Buffer.from(actual.data.buffer), Buffer.from(expected.data.buffer))).toBe(0);
}

describe('fromPretrained', () => {
  test('gives the network with its weights and preset, and again without a server', async () => {
    for (const asked of [1, 1]) {
      const model = await load(set());
      await expectSame(await model.forward(INPUT), await original.forward(INPUT));
      expect(model.config).toMatchObject({ preset: PRESET, numClasses: 5 });
      expect(server.asked).toHaveLength(asked);
      model.dispose();
      await server.close();
    }
  });

  test('tells of the download and of the load apart', async () => {
    const seen: PretrainedProgress[] = [];
    const onProgress = (progress: PretrainedProgress): void => void seen.push(progress);
    (await load(set(), { onProgress })).dispose();
    const total = whole.length;
    expect(seen.filter(({ stage }) => stage === 'download').at(-1)).toEqual({
      stage: 'download',
      loaded: total,
      total,
    });
    expect(seen.at(-1)).toEqual({ stage: 'load', loaded: total, total });
    seen.length = 0;
    (await load(set(), { onProgress })).dispose();
    expect(new Set(seen.map(({ stage }) => stage))).toEqual(new Set(['load']));
  });

  test('takes the options of create: another preset, labels, another head', async () => {
    const preset: ImagePreset = { ...PRESET, crop: 4 };
    const labels = ['a', 'b', 'c'];
    const model = await load(set(), { preset, labels, numClasses: 3, strict: false });
    expect(model.config).toMatchObject({ preset, labels, numClasses: 3 });
    expect(model.incompatibleKeys.missingKeys).toEqual(['classifier.6.weight', 'classifier.6.bias']);
    model.dispose();
  });

  test('reads the format that is asked for', async () => {
    const file = server.file(whole);
    const both = set({ files: [{ ...file, format: 'pth', sha256: '00000000' }, file] });
    (await load(both, { format: 'safetensors' })).dispose();
    await expect(load(both)).rejects.toMatchObject({ code: 'CHECKSUM_MISMATCH' });
    await expect(load(both, { format: 'onnx' as never })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test.each(['plain.pth', 'plain-legacy.pth'])(
    'reads %s, a PyTorch checkpoint by its first eight digits',
    async (name) => {
      const bytes = Buffer.from(fixture(name));
      await server.close();
      server = await serveWeights((request, response) => send(request, response, bytes));
      const file = server.file(bytes, { format: 'pth', name, sha256: sha256(bytes).slice(0, 8) });
      const model = await load(set({ model: [4, 'M', 8, 8, 'M'], files: [file] }), { hiddenFeatures: 16 });
      const expected = await VGGNet.load(bytes, { device: 'reference' });
      await expectSame(await model.forward(INPUT), await expected.forward(INPUT));
      model.dispose();
      expected.dispose();
    },
  );

  test.each([
    ['an unknown name', 'vgg12', {}, 'UNKNOWN_MODEL'],
    ['an unknown device', 'vgg16', { device: 'gpu' as DeviceName }, 'INVALID_ARGUMENT'],
    ['wrong labels', 'vgg16', { labels: ['one'] }, 'INVALID_ARGUMENT'],
    ['a wrong seed', 'vgg16', { seed: -1 }, 'INVALID_ARGUMENT'],
    ['no name', undefined, {}, 'INVALID_ARGUMENT'],
    ['an aborted signal', 'vgg16', { signal: AbortSignal.abort() }, 'ABORTED'],
  ])('refuses %s before it asks a server', async (_, name, options, code) => {
    await expect(load(name as string, { baseUrl: server.url, ...options })).rejects.toMatchObject({ code });
    expect(server.asked).toEqual([]);
    expect(await contents(folder)).toEqual([]);
  });

  test('asks a mirror for an official file by its path', async () => {
    const options = { numClasses: 1000, inChannels: 3, baseUrl: `${server.url}/mirror`, cacheDir: folder, retries: 0 };
    await expect(VGGNet.fromPretrained('vgg16', options)).rejects.toMatchObject({ code: 'CHECKSUM_MISMATCH' });
    await expect(VGGNet.fromPretrained('vgg19', options)).rejects.toMatchObject({ code: 'IO' });
    expect(server.asked.map(({ url }) => url)).toEqual([
      '/mirror/timm/vgg16.tv_in1k/resolve/b8d8aa2dd860af9233c8c67385a8097fd6c35d3f/model.safetensors',
      '/mirror/models/vgg19-dcbb9e9d.pth',
    ]);
    expect(await contents(folder)).toEqual([]);
  });

  test('names a file in the cache that is not of the network', async () => {
    const bytes = randomFile(100);
    const file = server.file(bytes);
    await writeFile(join(folder, file.name), bytes);
    await expect(load(set({ files: [file] }))).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS_FILE',
      message: expect.stringContaining(join(folder, file.name)),
    });
  });
});

describe.each<DeviceName>(['reference', 'wasm'])('weights of features alone, on %s', (device) => {
  test('are replaced while a forward with the old ones runs, which ends with them', async () => {
    const model = await load(featureSet(), { device, deterministic: true });
    const input = Tensor.randn([4, 3, 160, 160], { seed: 4 });
    const { pool2: expected } = await model.features(input, ['pool2']);
    const running = [1, 2, 3].map(() => model.features(input, ['pool2']));
    await model.loadWeights(whole, { strict: false });
    for (const { pool2 } of await Promise.all(running)) await expectSame(pool2, expected);
    await expectSame((await model.features(input, ['pool2'])).pool2, expected);
    model.dispose();
  });

  test('give features, and no classifier', async () => {
    const model = await load(featureSet(), { device, deterministic: true });
    const expected = await VGGNet.create(LIST, { ...SHAPE, weights: whole, device, deterministic: true });
    const names = ['relu1_1', 'features.4', 'pool2'] as const;
    const [got, want] = await Promise.all([model.features(INPUT, names), expected.features(INPUT, names)]);
    for (const name of names) await expectSame(got[name], want[name]);
    expect(model.layers.at(-1)?.name).toBe('pool2');
    expect(model.summary().layers.at(-1)?.outputShape).toEqual([1, 6, 2, 2]);
    expect([...(await model.stateDict()).keys()].every((name) => name.startsWith('features.'))).toBe(true);
    expect(model.incompatibleKeys).toEqual({ missingKeys: [], unexpectedKeys: [] });

    const refused = { code: 'UNKNOWN_LAYER', message: expect.stringMatching(/^This model cannot classify: .*pool2/) };
    await expect(model.forward(INPUT)).rejects.toMatchObject(refused);
    await expect(model.classify('no-such-file.png')).rejects.toMatchObject(refused);
    await expect(model.profile(INPUT)).rejects.toMatchObject(refused);
    await expect(model.features(INPUT, ['fc7'])).rejects.toMatchObject({ code: 'UNKNOWN_LAYER' });
    model.dispose();
    expected.dispose();
  });

  test('may be replaced, and saved', async () => {
    const model = await load(featureSet(), { device, deterministic: true });
    const saved = new Uint8Array(await new Response(model.save()).arrayBuffer());
    await model.loadWeights(saved);
    const { pool2 } = await model.features(INPUT, ['pool2']);
    const { pool2: expected } = await original.features(INPUT, ['pool2']);
    expect(pool2.data.every((value, i) => Math.abs(value - (expected.data[i] as number)) < 1e-5)).toBe(true);
    model.dispose();
  });
});
