import {
  type Architecture,
  type CreateOptions,
  saveSafetensors,
  Tensor,
  VGGNet,
  type VGGNetError,
  type WeightsInput,
} from 'vggnet';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import {
  bitsOf,
  bytesOf,
  createSmall,
  expectRefused,
  LIST,
  OPTIONS,
  type Refusal,
  smallInput,
} from './support/small.js';
import { f32, rawFile, streamOf } from './weights/rawfile.js';

/* Networks and weights that cannot be: a typed error in under a second, and a model that was there goes on. */

describe('models that cannot be', () => {
  const create = (model: unknown, options: CreateOptions = OPTIONS): Promise<VGGNet> =>
    VGGNet.create(model as Architecture, options);
  test.each<Refusal>([
    ['vgg15', 'UNKNOWN_MODEL', ["'vgg15'", /nearest: vgg1[169]/, "[64, 'M'"], () => create('vgg15')],
    ['vgg16bn', 'UNKNOWN_MODEL', [/nearest: vgg16_bn/], () => create('vgg16bn')],
    ['resnet50', 'UNKNOWN_MODEL', ["'resnet50'", 'vgg19_bn'], () => create('resnet50')],
    ['an empty name', 'UNKNOWN_MODEL', ["''"], () => create('')],
    ['a name of a megabyte', 'UNKNOWN_MODEL', ['nearest'], () => create('v'.repeat(2 ** 20))],
    ['__proto__', 'UNKNOWN_MODEL', ["'__proto__'"], () => create('__proto__')],
    ['0 channels', 'INVALID_ARCHITECTURE', ['entry 2', '0'], () => create([8, 'M', 0])],
    ['negative channels', 'INVALID_ARCHITECTURE', ['entry 0', '-8'], () => create([-8, 'M'])],
    ['fractional channels', 'INVALID_ARCHITECTURE', ['entry 1', '8.5'], () => create(['M', 8.5])],
    ['NaN channels', 'INVALID_ARCHITECTURE', ['entry 0', 'NaN'], () => create([Number.NaN])],
    ['infinite channels', 'INVALID_ARCHITECTURE', ['Infinity'], () => create([Number.POSITIVE_INFINITY])],
    ['too many channels', 'INVALID_ARCHITECTURE', ['65536', '65537'], () => create([65_537])],
    ['a lower-case m', 'INVALID_ARCHITECTURE', ['entry 1', "'m'", "'M'"], () => create([8, 'm'])],
    ['channels as text', 'INVALID_ARCHITECTURE', ["'64'"], () => create(['64', 'M'])],
    ['a hole in the list', 'INVALID_ARCHITECTURE', ['entry 1', 'undefined'], () => create([8, undefined, 'M'])],
    ['an empty list', 'INVALID_ARCHITECTURE', ['empty list'], () => create([])],
    ['only pools', 'INVALID_ARCHITECTURE', ["only 'M'"], () => create(['M', 'M'])],
    ['a thousand layers and one', 'INVALID_ARCHITECTURE', ['1000', '1001'], () => create(Array(1001).fill(1))],
    ['null', 'INVALID_ARCHITECTURE', ['null'], () => create(null)],
    ['nothing', 'INVALID_ARCHITECTURE', ['undefined'], () => create(undefined)],
    ['an object', 'INVALID_ARCHITECTURE', ['object'], () => create({})],
    ['numClasses 0', 'INVALID_ARGUMENT', ['numClasses', '0'], () => create(LIST, { numClasses: 0 })],
    ['inChannels 1.5', 'INVALID_ARGUMENT', ['inChannels', '1.5'], () => create(LIST, { inChannels: 1.5 })],
    [
      'hiddenFeatures as text',
      'INVALID_ARGUMENT',
      ['hiddenFeatures', '64'],
      () => create(LIST, { hiddenFeatures: '64' as never }),
    ],
    ['poolSize -7', 'INVALID_ARGUMENT', ['poolSize', '-7'], () => create(LIST, { poolSize: -7 })],
    ['dropout 1.1', 'INVALID_ARGUMENT', ['dropout', '1.1'], () => create(LIST, { dropout: 1.1 })],
    ['dropout NaN', 'INVALID_ARGUMENT', ['dropout', 'NaN'], () => create(LIST, { dropout: Number.NaN })],
    ['batchNorm 1', 'INVALID_ARGUMENT', ['batchNorm', '1'], () => create(LIST, { batchNorm: 1 as never })],
    ['a negative seed', 'INVALID_ARGUMENT', ['seed', '-1'], () => create(LIST, { ...OPTIONS, seed: -1 })],
    [
      'an unknown init',
      'INVALID_ARGUMENT',
      ['init', 'xavier'],
      () => create(LIST, { ...OPTIONS, init: 'xavier' as never }),
    ],
    [
      'an unknown device',
      'INVALID_ARGUMENT',
      ["'wasm'", 'cuda'],
      () => create(LIST, { ...OPTIONS, device: 'cuda' as never }),
    ],
    [
      'a GPU device that is none',
      'INVALID_ARGUMENT',
      ['gpuDevice must be a GPUDevice'],
      () => create(LIST, { ...OPTIONS, device: 'webgpu', gpuDevice: {} as never }),
    ],
    [
      'labels of another number',
      'INVALID_ARGUMENT',
      ['10 strings', 'list of 2'],
      () => create(LIST, { ...OPTIONS, labels: ['a', 'b'] }),
    ],
    [
      'labels that are no text',
      'INVALID_ARGUMENT',
      ['10 strings'],
      () => create(LIST, { ...OPTIONS, labels: Array(10).fill(1) }),
    ],
    [
      'a preset of other channels',
      'INVALID_ARGUMENT',
      ["mode 'L'", '3'],
      () => create(LIST, { ...OPTIONS, preset: { mode: 'L', resize: 8, crop: 8, scale: 1, mean: [0], std: [1] } }),
    ],
    ['a preset that is none', 'INVALID_ARGUMENT', ['mode'], () => create(LIST, { ...OPTIONS, preset: {} as never })],
    [
      'a signal that is none',
      'INVALID_ARGUMENT',
      ['AbortSignal'],
      () => create(LIST, { ...OPTIONS, signal: 'x' as never }),
    ],
    ['more weights than fit', 'OUT_OF_MEMORY', ['weights', '4096 MiB'], () => create([65_536, 65_536])],
    [
      'more weights than fit, inline',
      'OUT_OF_MEMORY',
      ['4096 MiB'],
      () => create([65_536, 65_536], { ...OPTIONS, inline: true }),
    ],
    [
      'a wider classifier than fits',
      'OUT_OF_MEMORY',
      ['4096 MiB'],
      () => create(LIST, { hiddenFeatures: 1e6, numClasses: 1e6 }),
    ],
  ])('%s', async (_, code, parts, run) => {
    await expectRefused(run, code, ...parts);
  });

  test.each([false, true])(
    'activations over the memory: an error, and the model goes on, inline %s',
    async (inline) => {
      using model = await VGGNet.create([256, 256], { ...OPTIONS, inline, deterministic: true });
      const x = smallInput();
      const logits = bitsOf(await model.forward(x));
      // 256 channels of 1500 × 1500 in float32, in and out, are 4.3 GiB. The input, which is copied first, is 26 MiB.
      const large = Tensor.zeros([1, 3, 1500, 1500]);
      await expectRefused(() => model.forward(large), 'OUT_OF_MEMORY', 'activations', '4096 MiB');
      expect(bitsOf(await model.forward(x))).toEqual(logits);
    },
  );
});

describe('weights files', () => {
  const header = (bytes: bigint): Uint8Array<ArrayBuffer> => {
    const out = new Uint8Array(64);
    new DataView(out.buffer).setBigUint64(0, bytes, true);
    return out;
  };
  const bias = 'features.0.bias';
  let model: VGGNet;
  let file: Uint8Array<ArrayBuffer>;
  let logits: number[];
  beforeAll(async () => {
    model = await createSmall({ deterministic: true });
    file = await bytesOf(model.save());
    logits = bitsOf(await model.forward(smallInput()));
  });
  afterEach(async () => {
    expect(bitsOf(await model.forward(smallInput()))).toEqual(logits);
  });
  afterAll(() => model.dispose());

  const cases: readonly (readonly [string, string | RegExp, () => Uint8Array<ArrayBuffer>])[] = [
    ['nothing', 'at least 8 bytes, got 0', () => new Uint8Array(0)],
    ['a file that ends in its header', /ends|past the end/, () => file.slice(0, 200)],
    ['a file that ends in a tensor', /ends early|past the end/, () => file.slice(0, -9)],
    ['a file with more after it', /follow the last tensor/, () => Uint8Array.from([...file, 0])],
    ['a header over 100 MB', 'header of 100000001 bytes, over the limit of 100000000', () => header(100_000_001n)],
    ['a header of 2^64 - 1', 'over the limit', () => header(2n ** 64n - 1n)],
    ['offsets that overlap', 'overlaps', () => rawFile({ [bias]: f32([8], 0, 32), b: f32([1], 28, 32) }, 32)],
    ['offsets out of the file', /past the end|ends early/, () => rawFile({ [bias]: f32([8], 0, 32) }, 31)],
    ['a hole', 'belong to no tensor', () => rawFile({ [bias]: f32([8], 0, 32), b: f32([1], 36, 40) }, 40)],
    [
      'a name twice',
      'twice',
      () => rawFile(`{"a":${JSON.stringify(f32([1], 0, 4))},"a":${JSON.stringify(f32([1], 0, 4))}}`, 4),
    ],
    ['a tensor called __proto__', "'__proto__'", () => rawFile(`{"__proto__":${JSON.stringify(f32([1], 0, 4))}}`, 4)],
    ['a shape unequal to its bytes', 'needs 36 bytes', () => rawFile({ [bias]: f32([9], 0, 32) }, 32)],
    ['an unknown dtype', 'dtype', () => rawFile({ [bias]: { dtype: 'F31', shape: [8], data_offsets: [0, 31] } }, 31)],
  ];
  test.each(cases)('%s', async (_, message, make) => {
    const ways: Record<string, (weights: WeightsInput) => Promise<unknown>> = {
      create: (weights) => createSmall({ weights }),
      load: (weights) => VGGNet.load(weights),
      loadWeights: (weights) => model.loadWeights(weights),
    };
    for (const way of Object.values(ways)) {
      await expectRefused(() => way(make()), 'INVALID_WEIGHTS_FILE', message);
      // Of a stream's end nothing is known when its tensors are held against the network's.
      const error = (await way(streamOf(make(), 999)).catch((reason: unknown) => reason)) as VGGNetError;
      expect(['INVALID_WEIGHTS_FILE', 'WEIGHTS_MISMATCH']).toContain(error.code);
    }
  });

  test.each<Refusal>([
    ['integers', 'INVALID_DTYPE', ['F16', 'I32'], () => model.loadWeights(integers())],
    ['no tensors at all', 'WEIGHTS_MISMATCH', ['empty file'], () => model.loadWeights(rawFile({}))],
    ['no tensors to tell by', 'WEIGHTS_MISMATCH', ['not of a VGG'], () => VGGNet.load(rawFile({}))],
    [
      'another kind of network',
      'WEIGHTS_MISMATCH',
      ['layer1.0'],
      () => model.loadWeights(saveSafetensors({ 'layer1.0.weight': Tensor.zeros([3]) })),
    ],
    ['a thing that holds no bytes', 'INVALID_ARGUMENT', ['Uint8Array', 'Object'], () => model.loadWeights({} as never)],
    ['null', 'INVALID_ARGUMENT', ['null'], () => VGGNet.load(null as never)],
    ['a number', 'INVALID_ARGUMENT', ['number'], () => createSmall({ weights: 5 as never })],
    ['an empty path', 'INVALID_ARGUMENT', ['empty'], () => VGGNet.load('')],
    ['a folder', 'IO', ['directory'], () => VGGNet.load(new URL('.', import.meta.url))],
    ['a bad seed', 'INVALID_ARGUMENT', ['seed'], () => model.loadWeights(file, { seed: 2 ** 32 })],
    ['a bad seed where none is needed', 'INVALID_ARGUMENT', ['seed'], () => VGGNet.load(file, { seed: 0.5 })],
  ])('%s', async (_, code, parts, run) => {
    await expectRefused(run, code, ...parts);
  });

  /** The file with one tensor's dtype changed to another of the same width. */
  function integers(): Uint8Array<ArrayBuffer> {
    const text = new TextDecoder('latin1').decode(file);
    const at = text.indexOf('"F32"', text.indexOf(bias));
    const changed = file.slice();
    changed.set(new TextEncoder().encode('"I32"'), at);
    return changed;
  }
});

test('a failed create leaves no rejection unhandled, and no signal listener', async () => {
  const unhandled: unknown[] = [];
  const note = (reason: unknown): void => void unhandled.push(reason);
  process.on('unhandledRejection', note);
  const { signal } = new AbortController();
  let listeners = 0;
  const { addEventListener, removeEventListener } = signal;
  signal.addEventListener = (...rest: Parameters<typeof addEventListener>) => {
    listeners++;
    addEventListener.apply(signal, rest);
  };
  signal.removeEventListener = (...rest: Parameters<typeof removeEventListener>) => {
    listeners--;
    removeEventListener.apply(signal, rest);
  };
  try {
    using model = await createSmall({ signal });
    const wrong = saveSafetensors({ 'features.0.weight': Tensor.zeros([1]) });
    const calls = [
      createSmall({ weights: wrong, signal }),
      createSmall({ weights: 'no such file', signal }),
      model.loadWeights(wrong, { signal }),
      model.forward(Tensor.zeros([1]), { signal }),
      model.features(smallInput(), ['nope'], { signal }),
      model.classify('no such file', { signal }),
      model.forward(smallInput(), { signal }),
    ];
    await Promise.allSettled(calls);
    model.dispose();
    await Promise.allSettled([model.forward(smallInput(), { signal })]);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(unhandled).toEqual([]);
    expect(listeners).toBe(0);
  } finally {
    process.off('unhandledRejection', note);
  }
});
