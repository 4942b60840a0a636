import { fileURLToPath } from 'node:url';
import { MessageChannel } from 'node:worker_threads';
import { crc32 } from 'node:zlib';
import { type CreateOptions, IMAGE_LIMITS, type ImageInput, Tensor, type VGGNet, type VGGNetErrorCode } from 'vggnet';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { bitsOf, createSmall, expectRefused, type Refusal, SIDE, smallInput } from './support/small.js';

/*
 * Bad input through the public API: a typed error that says what was expected and what came, in under a second,
 * after which the same model gives the same logits.
 */

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
