import { fileURLToPath } from 'node:url';
import { MessageChannel } from 'node:worker_threads';
import { crc32 } from 'node:zlib';
import {
  type Architecture,
  type CreateOptions,
  IMAGE_LIMITS,
  type ImageInput,
  saveSafetensors,
  Tensor,
  VGGNet,
  type VGGNetError,
  type VGGNetErrorCode,
  type WeightsInput,
} from 'vggnet';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { bitsOf, bytesOf, createSmall, expectRefused, LIST, OPTIONS, SIDE, smallInput } from './support/small.js';
import { f32, rawFile, streamOf } from './weights/rawfile.js';

/*
 * Bad input through the public API: a typed error that says what was expected and what came, in under a second,
 * after which the same model gives the same logits.
 */

type Refusal = readonly [what: string, code: VGGNetErrorCode, parts: readonly (string | RegExp)[], run: () => unknown];

/** Takes the buffer away, as `postMessage(data, [data.buffer])` does. */
function detach(buffer: ArrayBuffer): void {
  const { port1, port2 } = new MessageChannel();
  port1.postMessage(buffer, [buffer]);
  port1.close();
  port2.close();
}

function detachedTensor(): Tensor {
  const tensor = smallInput();
  detach(tensor.data.buffer as ArrayBuffer);
  return tensor;
}

function imageFile(name: string): string {
  return fileURLToPath(new URL(`golden/images/${name}`, import.meta.url));
}

/** A PNG whose header claims a size. */
function pngOf(width: number, height: number): Uint8Array {
  const chunk = (type: string, data: Buffer): Buffer => {
    const body = Buffer.concat([Buffer.from(type), data]);
    const [length, sum] = [Buffer.alloc(4), Buffer.alloc(4)];
    length.writeUInt32BE(data.length);
    sum.writeUInt32BE(crc32(body));
    return Buffer.concat([length, body, sum]);
  };
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 8, 2, 0, 0, 0]);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', Buffer.alloc(9)),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

describe.each([{ inline: false }, { inline: true }, { device: 'reference' as const }])(
  'one model, %o',
  (options: CreateOptions) => {
    const x = smallInput(2);
    let model: VGGNet;
    let logits: number[];
    beforeAll(async () => {
      model = await createSmall({ ...options, deterministic: true });
      logits = bitsOf(await model.forward(x));
    });
    afterEach(async () => {
      expect(model.training).toBe(false);
      expect(bitsOf(await model.forward(x)), 'logits after what was refused').toEqual(logits);
    });
    afterAll(() => model.dispose());

    const forward = (shape: readonly number[]): Promise<Tensor> => model.forward(Tensor.zeros(shape));
    const classify = (image: unknown): Promise<unknown> => model.classify(image as ImageInput);

    test.each<Refusal>([
      ['1 channel', 'INVALID_SHAPE', ['conv1_1', '3 channels', '[1, 1, 12, 12]'], () => forward([1, 1, 12, 12])],
      ['4 channels', 'INVALID_SHAPE', ['conv1_1', '3 channels', '[2, 4, 12, 12]'], () => forward([2, 4, 12, 12])],
      ['channels last', 'INVALID_SHAPE', ['3 channels', '[1, 12, 12, 3]'], () => forward([1, 12, 12, 3])],
      ['rank 3', 'INVALID_SHAPE', ['(N, 3, H, W)', '[3, 12, 12]'], () => forward([3, 12, 12])],
      ['rank 5', 'INVALID_SHAPE', ['(N, 3, H, W)', '[1, 1, 3, 12, 12]'], () => forward([1, 1, 3, 12, 12])],
      ['rank 2', 'INVALID_SHAPE', ['(N, 3, H, W)', '[1, 432]'], () => forward([1, 432])],
      ['a scalar', 'INVALID_SHAPE', ['(N, 3, H, W)', '[]'], () => forward([])],
      ['less than the pools allow', 'INVALID_SHAPE', ['pool2', '4×4', '[1, 3, 3, 3]'], () => forward([1, 3, 3, 3])],
      ['less in one side', 'INVALID_SHAPE', ['pool2', '4×4', '[1, 3, 64, 3]'], () => forward([1, 3, 64, 3])],
      ['1×1', 'INVALID_SHAPE', ['pool1', '4×4', '[1, 3, 1, 1]'], () => forward([1, 3, 1, 1])],
      ['a side of 0', 'INVALID_SHAPE', ['at least 1', '[1, 3, 0, 12]'], () => forward([1, 3, 0, 12])],
      ['no channels', 'INVALID_SHAPE', ['3 channels', '[1, 0, 12, 12]'], () => forward([1, 0, 12, 12])],
      ['batch 0', 'INVALID_SHAPE', ['batch of at least 1', '[0, 3, 12, 12]'], () => forward([0, 3, 12, 12])],
      [
        'a detached buffer',
        'INVALID_SHAPE',
        ['[1, 3, 12, 12]', '0 values', 'detached'],
        () => model.forward(detachedTensor()),
      ],
      ['a detached buffer in classify', 'INVALID_SHAPE', ['detached'], () => classify(detachedTensor())],
      ['a detached buffer in features', 'INVALID_SHAPE', ['detached'], () => model.features(detachedTensor(), ['fc7'])],
      ['no tensor', 'INVALID_ARGUMENT', ['Tensor', 'undefined'], () => model.forward(undefined as never)],
      ['null', 'INVALID_ARGUMENT', ['Tensor', 'null'], () => model.forward(null as never)],
      ['a bare array', 'INVALID_ARGUMENT', ['Tensor', 'object'], () => model.forward(new Float32Array(432) as never)],
      [
        'what looks like a tensor',
        'INVALID_ARGUMENT',
        ['Tensor', 'object'],
        () => model.forward({ data: x.data, shape: x.shape } as never),
      ],
      [
        'a signal that is none',
        'INVALID_ARGUMENT',
        ['AbortSignal', 'string'],
        () => model.forward(x, { signal: 'stop' as never }),
      ],
      [
        'a signal that is none, in classify',
        'INVALID_ARGUMENT',
        ['AbortSignal'],
        () => model.classify(smallInput(), { signal: {} as never }),
      ],
      ['no layers', 'INVALID_ARGUMENT', ['list of layer names'], () => model.features(x, [])],
      ['a name without a list', 'INVALID_ARGUMENT', ['list of layer names'], () => model.features(x, 'fc7' as never)],
      ['an unknown layer', 'UNKNOWN_LAYER', ["'relu3_3'", 'relu2_1'], () => model.features(x, ['fc7', 'relu3_3'])],
      ['an unknown module', 'UNKNOWN_LAYER', ["'features.99'", 'features.'], () => model.features(x, ['features.99'])],
      ['an empty name', 'UNKNOWN_LAYER', ["''"], () => model.features(x, [''])],
      ['__proto__', 'UNKNOWN_LAYER', ["'__proto__'"], () => model.features(x, ['__proto__'])],
      ['topK 0', 'INVALID_ARGUMENT', ['topK', '1 to 10', '0'], () => model.classify(smallInput(), { topK: 0 })],
      [
        'topK over the classes',
        'INVALID_ARGUMENT',
        ['topK', '1 to 10', '11'],
        () => model.classify(smallInput(), { topK: 11 }),
      ],
      ['topK 1.5', 'INVALID_ARGUMENT', ['topK', '1.5'], () => model.classify(smallInput(), { topK: 1.5 })],
      ['a batch to classify', 'INVALID_SHAPE', ['(1, C, H, W)', '[2, 3, 12, 12]'], () => classify(x)],
      ['a scalar to classify', 'INVALID_SHAPE', ['(1, C, H, W)', '[]'], () => classify(Tensor.zeros([]))],
      ['wrong channels to classify', 'INVALID_SHAPE', ['3 channels'], () => classify(Tensor.zeros([1, 1, SIDE, SIDE]))],
      [
        'one bad image of a list',
        'INVALID_SHAPE',
        ['[3, 12, 12]'],
        () => classify([smallInput(), Tensor.zeros([3, 12, 12])]),
      ],
      [
        'an unknown naming',
        'INVALID_ARGUMENT',
        ["'timm'", "'keras'"],
        () => model.stateDict({ naming: 'keras' as never }),
      ],
      [
        'an unknown naming to save',
        'INVALID_ARGUMENT',
        ["'timm'", "'keras'"],
        () => model.save({ naming: 'keras' as never }),
      ],
      ['an unknown dtype to save', 'INVALID_ARGUMENT', ["'F16'", 'I8'], () => model.save({ dtype: 'I8' as never })],
      [
        'a summary of a fraction',
        'INVALID_SHAPE',
        ['integers', '[1.5, 3, 12, 12]'],
        () => model.summary([1.5, 3, 12, 12]),
      ],
      ['a summary of NaN', 'INVALID_SHAPE', ['integers', 'NaN'], () => model.summary([1, 3, Number.NaN, 12])],
      ['a summary of a negative batch', 'INVALID_SHAPE', ['integers', '-1'], () => model.summary([-1, 3, 12, 12])],
      ['a summary of too little', 'INVALID_SHAPE', ['pool2', '4×4'], () => model.summary([1, 3, 2, 2])],
    ])('%s', async (_, code, parts, run) => {
      await expectRefused(run, code, ...parts);
    });

    test.each<readonly [string, VGGNetErrorCode, readonly string[], () => unknown]>([
      ['text', 'INVALID_IMAGE', ['JPEG'], () => new TextEncoder().encode('this is no image at all, is it')],
      ['nothing', 'INVALID_IMAGE', [], () => new Uint8Array(0)],
      ['an animated GIF', 'INVALID_IMAGE', ['still', 'frames'], () => imageFile('animated.gif')],
      ['an animated WebP', 'INVALID_IMAGE', ['still', 'frames'], () => imageFile('animated.webp')],
      ['an animated PNG', 'INVALID_IMAGE', ['still', 'frames'], () => imageFile('animated.png')],
      ['a PNG without pixels', 'INVALID_IMAGE', [], () => pngOf(10, 10)],
      ['a PNG of too many pixels', 'IMAGE_TOO_LARGE', ['megapixels', '20000×20000'], () => pngOf(20_000, 20_000)],
      ['a PNG of too long a side', 'IMAGE_TOO_LARGE', [`${IMAGE_LIMITS.side}`, '1×40000'], () => pngOf(1, 40_000)],
      ['a missing file', 'IO', ['none.png'], () => imageFile('none.png')],
      ['pixels too short', 'INVALID_IMAGE', ['16', '15'], () => ({ data: new Uint8Array(15), width: 2, height: 2 })],
      [
        'pixels too long',
        'INVALID_IMAGE',
        ['12', '16'],
        () => ({ data: new Uint8Array(16), width: 2, height: 2, channels: 3 }),
      ],
      ['float pixels', 'INVALID_IMAGE', ['Float32Array'], () => ({ data: new Float32Array(16), width: 2, height: 2 })],
      ['pixels of no width', 'INVALID_IMAGE', ['0×2'], () => ({ data: new Uint8Array(0), width: 0, height: 2 })],
      ['a number', 'INVALID_ARGUMENT', ['path', 'got 7'], () => 7],
      ['null', 'INVALID_ARGUMENT', ['null'], () => null],
      ['undefined', 'INVALID_ARGUMENT', ['undefined'], () => undefined],
    ])('an image that is %s', async (_, code, parts, image) => {
      await expectRefused(() => classify(image()), code, ...parts);
    });

    test('a truncated JPEG and PNG', async () => {
      for (const name of ['baseline.jpg', 'rgb.png']) {
        const whole = new Uint8Array(await (await import('node:fs/promises')).readFile(imageFile(name)));
        await expectRefused(() => classify(whole.slice(0, whole.length * 0.7)), 'INVALID_IMAGE');
      }
    });

    test('NaN and infinities flow through, to the image that has them alone', async () => {
      const bad = new Tensor(x.data.slice(), x.shape);
      // Far from the border of the second image, so that the pools see finite values too.
      bad.data[3 * SIDE * SIDE + 6 * SIDE + 6] = Number.NaN;
      const taps = await model.features(bad, ['relu1_1', 'pool1', 'prob']);
      const nan = (tensor: Tensor): number => tensor.data.filter(Number.isNaN).length;
      // 3×3 pixels around it in each of 8 channels; 2×2 of the pools' windows.
      expect(nan(taps.relu1_1)).toBe(8 * 9);
      expect(nan(taps.pool1)).toBe(8 * 4);
      expect([...taps.prob.data].map(Number.isNaN)).toEqual([...Array(10).fill(false), ...Array(10).fill(true)]);
      bad.data[3 * SIDE * SIDE + 6 * SIDE + 6] = Number.POSITIVE_INFINITY;
      const { conv1_1 } = await model.features(bad, ['conv1_1']);
      expect(conv1_1.data.filter((value) => Math.abs(value) === Infinity).length).toBe(8 * 9);
      const best = await model.classify(
        new Tensor(new Float32Array(3 * SIDE * SIDE).fill(Number.NaN), [1, 3, SIDE, SIDE]),
      );
      expect(best.map(({ index, probability }) => [index, Number.isNaN(probability)])).toEqual(
        [0, 1, 2, 3, 4].map((i) => [i, true]),
      );
    });
  },
);

describe('tensors', () => {
  const data = (length: number): Float32Array => new Float32Array(length);
  test.each<Refusal>([
    ['data too short', 'INVALID_SHAPE', ['[1, 3, 2, 2]', '12', '11'], () => new Tensor(data(11), [1, 3, 2, 2])],
    ['data too long', 'INVALID_SHAPE', ['[1, 3, 2, 2]', '12', '13'], () => new Tensor(data(13), [1, 3, 2, 2])],
    ['float64', 'INVALID_DTYPE', ['Float32Array', 'Float64Array'], () => new Tensor(new Float64Array(4) as never, [4])],
    [
      'bytes',
      'INVALID_DTYPE',
      ['Float32Array', 'Uint8ClampedArray'],
      () => new Tensor(new Uint8ClampedArray(4) as never, [4]),
    ],
    [
      'integers',
      'INVALID_DTYPE',
      ['Float32Array', 'BigInt64Array'],
      () => new Tensor(new BigInt64Array(4) as never, [4]),
    ],
    ['a list', 'INVALID_DTYPE', ['Float32Array', 'Array'], () => new Tensor([1, 2] as never, [2])],
    ['nothing', 'INVALID_DTYPE', ['Float32Array', 'undefined'], () => new Tensor(undefined as never, [2])],
    ['a negative size', 'INVALID_SHAPE', ['-1'], () => new Tensor(data(1), [-1, -1])],
    ['a fractional size', 'INVALID_SHAPE', ['0.5'], () => new Tensor(data(1), [0.5, 2])],
    ['NaN', 'INVALID_SHAPE', ['NaN'], () => new Tensor(data(1), [Number.NaN])],
    ['no shape', 'INVALID_SHAPE', ['undefined'], () => new Tensor(data(1), undefined as never)],
    ['zeros of no shape', 'INVALID_SHAPE', ['number'], () => Tensor.zeros(5 as never)],
    ['zeros of a string', 'INVALID_SHAPE', ['string'], () => Tensor.zeros('224' as never)],
    ['zeros of too many', 'INVALID_SHAPE', ['2^30'], () => Tensor.zeros([2 ** 20, 2 ** 20])],
    ['randn of a negative size', 'INVALID_SHAPE', ['-3'], () => Tensor.randn([-3])],
    ['randn of a bad seed', 'INVALID_ARGUMENT', ['seed', '-1'], () => Tensor.randn([3], { seed: -1 })],
    ['reshape to another number', 'INVALID_SHAPE', ['[5]', '6'], () => Tensor.zeros([6]).reshape([5])],
    ['reshape to an uneven number', 'INVALID_SHAPE', ['1.5'], () => Tensor.zeros([6]).reshape([4, -1])],
    ['reshape to nothing', 'INVALID_SHAPE', ['null'], () => Tensor.zeros([6]).reshape(null as never)],
    [
      'a detached buffer',
      'INVALID_SHAPE',
      ['detached'],
      () => {
        const gone = data(4);
        detach(gone.buffer as ArrayBuffer);
        return new Tensor(gone, [4]);
      },
    ],
  ])('%s', async (_, code, parts, run) => {
    await expectRefused(run, code, ...parts);
  });
});

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
      'a device that is not here',
      'BACKEND_UNAVAILABLE',
      ['WebGPU'],
      () => create(LIST, { ...OPTIONS, device: 'webgpu' }),
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
      using model = await VGGNet.create([64, 64], { ...OPTIONS, inline, deterministic: true });
      const x = smallInput();
      const logits = bitsOf(await model.forward(x));
      // 64 channels of 3000 × 3000 in float32, in and out, are 4.3 GiB. The input is 103 MiB.
      const large = Tensor.zeros([1, 3, 3000, 3000]);
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
