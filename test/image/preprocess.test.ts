import { describe, expect, test } from 'vitest';
import { imageToTensor, preprocess, resizeAndCrop } from '../../src/image/preprocess.js';
import { CAFFE_PRESET, IMAGENET_PRESET } from '../../src/image/preset.js';
import { resizeBilinear, shorterSideSize } from '../../src/image/resize.js';
import { finish } from '../../src/image/steps.js';
import { stopwatch } from '../support/stopwatch.js';
import { golden, greatestDifference, IMAGES, NONE, pattern, unpack, unpackFloats, unpackPixels } from './golden.js';

const picture = { width: 37, height: 53, channels: 3, data: pattern(37, 53) } as const;

describe('resize and crop are equal to Pillow and torchvision at every pixel', () => {
  test.each(Object.keys(golden.resized))('%s', (name) => {
    const expected = golden.resized[name] as (typeof golden.resized)[string];
    const { source, mode, resize, crop } = expected;
    const data = pattern(source.width, source.height, source.noise);
    const image = finish(resizeAndCrop({ ...source, data, channels: 3 }, { ...IMAGENET_PRESET, mode, resize, crop }));
    expect([image.width, image.height]).toEqual([expected.width, expected.height]);
    expect(greatestDifference(image.data, unpackPixels(expected.pixels, image.channels))).toEqual(NONE);
  });

  test('a region is that part of the whole', () => {
    const whole = resizeBilinear(picture, 31, 40);
    const part = resizeBilinear(picture, 31, 40, { left: 5, top: 7, width: 11, height: 13 });
    for (let y = 0; y < 13; y++) {
      const from = ((y + 7) * 31 + 5) * 3;
      expect(part.data.subarray(y * 33, y * 33 + 33)).toEqual(whole.data.subarray(from, from + 33));
    }
  });

  test('a constant image stays constant, also where thousands of weights are rounded', () => {
    const image = { width: 30_000, height: 2, channels: 1, data: new Uint8Array(60_000).fill(255) } as const;
    expect(resizeBilinear(image, 3, 1).data).toEqual(new Uint8Array(3).fill(255));
  });

  test('the longer side is rounded down', () => {
    expect(shorterSideSize(640, 480, 256)).toEqual({ width: 341, height: 256 });
    expect(shorterSideSize(480, 640, 256)).toEqual({ width: 256, height: 341 });
    expect(shorterSideSize(37, 53, 224)).toEqual({ width: 224, height: 320 });
    expect(shorterSideSize(50, 50, 7)).toEqual({ width: 7, height: 7 });
  });

  test('the source is not changed', () => {
    const data = pattern(37, 53);
    preprocess({ ...picture, data }, IMAGENET_PRESET);
    expect(data).toEqual(picture.data);
  });
});

describe('tensors', () => {
  test('every byte is normalised as torchvision does, to the last bit', () => {
    const image = { width: 16, height: 16, channels: 3, data: unpack(golden.tensors.bytes) } as const;
    const tensor = preprocess(image, { ...IMAGENET_PRESET, resize: null, crop: null });
    expect(tensor.shape).toEqual([1, 3, 16, 16]);
    expect(greatestDifference(tensor.data, unpackFloats(golden.tensors.allBytes))).toEqual(NONE);
  });

  test('Resize, CenterCrop, ToTensor, Normalize', () => {
    const tensor = preprocess(picture, { ...IMAGENET_PRESET, resize: 32, crop: 28 });
    expect(tensor.shape).toEqual([1, 3, 28, 28]);
    expect(greatestDifference(tensor.data, unpackFloats(golden.tensors.imagenet))).toEqual(NONE);
  });

  test('caffe mode, as Keras computes it', () => {
    const tensor = preprocess(picture, { ...CAFFE_PRESET, resize: 32, crop: 28 });
    expect(tensor.shape).toEqual([1, 3, 28, 28]);
    expect(greatestDifference(tensor.data, unpackFloats(golden.tensors.caffe))).toEqual(NONE);
  });

  test('grey has one channel', () => {
    const tensor = preprocess(
      { width: 2, height: 1, data: Uint8Array.of(255, 0, 0, 9, 0, 255, 0, 9) },
      { mode: 'L', resize: null, crop: null, scale: 1 / 255, mean: [0.5], std: [0.25] },
    );
    expect(tensor.shape).toEqual([1, 1, 1, 2]);
    const grey = [(255 * 19595 + 0x8000) >> 16, (255 * 38470 + 0x8000) >> 16];
    grey.forEach((value, i) => {
      expect(tensor.data[i]).toBeCloseTo((value / 255 - 0.5) / 0.25, 6);
    });
  });

  test('an image smaller than the crop is padded with black, which is normalised too', () => {
    const tensor = preprocess(
      { width: 1, height: 1, channels: 1, data: Uint8Array.of(255) },
      { mode: 'L', resize: null, crop: 4, scale: 1 / 255, mean: [0.5], std: [0.5] },
    );
    expect([...tensor.data]).toEqual(Array.from({ length: 16 }, (_, i) => (i === 5 ? 1 : -1)));
  });

  test('a file, from its URL to the tensor', async () => {
    const tensor = await imageToTensor(new URL('orientation-6.jpg', IMAGES), IMAGENET_PRESET);
    expect(tensor.shape).toEqual([1, 3, 224, 224]);
    expect(tensor.data.every((value) => value > -2.2 && value < 2.7)).toBe(true);
    const upright = golden.files['orientation-6.jpg'] as (typeof golden.files)[string];
    const pixels = { ...upright, data: unpack(upright.pixels), channels: 3 as const };
    expect(tensor.data).toEqual(preprocess(pixels, IMAGENET_PRESET).data);
  });

  test('a result over the limits is refused before it is made', () => {
    const line = { width: 1, height: 5_000, channels: 1, data: new Uint8Array(5_000) } as const;
    const elapsed = stopwatch();
    expect(() => preprocess(line, { ...IMAGENET_PRESET, crop: null })).toThrow(
      expect.objectContaining({ code: 'IMAGE_TOO_LARGE', message: expect.stringContaining('256×1280000') }),
    );
    expect(preprocess(line, IMAGENET_PRESET).shape).toEqual([1, 3, 224, 224]);
    expect(elapsed()).toBeLessThan(1000);
  });
});
