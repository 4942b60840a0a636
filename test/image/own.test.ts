import { deflateSync } from 'node:zlib';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { decodeImage } from '../../src/image/decode.js';
import { chooseDecoder } from '../../src/image/decoders.js';
import { readImageHeader } from '../../src/image/header.js';
import { decodeWithOwn } from '../../src/image/own/decode.js';
import { loadSharp } from '../../src/image/sharp.js';
import { golden, greatestDifference, imageBytes, NONE, pattern, unpack } from './golden.js';
import { png } from './png.js';

type File = Uint8Array<ArrayBuffer>;

async function own(file: Uint8Array): Promise<Uint8Array | Uint8ClampedArray> {
  return (await decodeImage(file, { deterministic: true })).data;
}

describe('the package decodes as Pillow reads', () => {
  test.each(Object.keys(golden.files).filter((name) => !name.endsWith('.gif')))('%s', async (name) => {
    const expected = golden.files[name] as (typeof golden.files)[string];
    const file = imageBytes(name) as File;
    const image = await decodeWithOwn(file, readImageHeader(file));
    expect([image.width, image.height, image.channels]).toEqual([expected.width, expected.height, 3]);
    expect(greatestDifference(image.data, unpack(expected.pixels))).toEqual(NONE);
    expect(file).toEqual(imageBytes(name));
  });
});

describe('a photo that takes a thread of its own', () => {
  const [width, height] = [801, 603];
  const photo = () => sharp(pattern(width, height), { raw: { width, height, channels: 3 } });
  test.each([
    ['jpeg', () => photo().jpeg({ quality: 71 })],
    ['jpeg', () => photo().jpeg({ quality: 90, progressive: true, chromaSubsampling: '4:4:4' })],
    ['jpeg', () => photo().greyscale().jpeg()],
    ['webp', () => photo().webp({ quality: 60 })],
    ['webp', () => photo().webp({ lossless: true })],
    ['webp', () => photo().ensureAlpha(0.3).webp({ quality: 60 })],
    ['png', () => photo().png()],
  ] as const)('%s', async (_, make) => {
    const file = await make().toBuffer();
    const { data } = await decodeImage(file);
    expect(greatestDifference(await own(file), data)).toEqual(NONE);
  });

  test('a broken one is refused, and the next one is not', async () => {
    const file = await photo().jpeg().toBuffer();
    const broken = Buffer.from(file);
    broken.fill(0xff, 2, 160);
    await expect(own(broken)).rejects.toMatchObject({ code: 'INVALID_IMAGE' });
    await expect(own(file)).resolves.toHaveLength(width * height * 3);
  });
});

describe('PNG of every kind, as libpng reads it', () => {
  const kinds: [type: number, bitDepth: number, channels: number][] = [
    ...[1, 2, 4, 8, 16].map((depth): [number, number, number] => [0, depth, 1]),
    ...[1, 2, 4, 8].map((depth): [number, number, number] => [3, depth, 1]),
    ...[8, 16].flatMap((depth): [number, number, number][] => [
      [2, depth, 3],
      [4, depth, 2],
      [6, depth, 4],
    ]),
  ];
  const sizes = [
    [1, 1],
    [2, 5],
    [13, 9],
    [64, 33],
  ] as const;

  test.each(kinds)('color type %i of %i bits', async (type, bitDepth, channels) => {
    for (const interlaced of [false, true]) {
      for (const [width, height] of sizes) {
        const rows = storedRows({ width, height, bits: bitDepth * channels, interlaced });
        const palette = type === 3 ? pattern(2 ** bitDepth, 1) : undefined;
        const file = png(width, height, { data: deflateSync(rows), type, bitDepth, palette, interlaced });
        const what = `${width}×${height}, interlaced: ${interlaced}`;
        expect(greatestDifference(await own(file), (await decodeImage(file)).data), what).toEqual(NONE);
      }
    }
  });

  test('more data than pixels is passed over', async () => {
    const file = png(2, 2, { data: deflateSync(Buffer.alloc(100_000)) });
    expect(await own(file)).toEqual(new Uint8Array(12));
  });
});

describe('INVALID_IMAGE', () => {
  const rows = deflateSync(Buffer.alloc(10 * 10));
  const flipped = (at: number): Uint8Array => {
    const file = png(9, 10, { data: rows });
    file[at] = (file[at] as number) ^ 1;
    return file;
  };
  test.each<[string, Uint8Array, string]>([
    ['pixels that end early', png(9, 11, { data: rows }), 'could not be decoded: its data ends early'],
    ['data that ends early', png(9, 10, { data: rows.subarray(0, 9) }), 'could not be decoded'],
    ['no data', png(9, 10, { data: new Uint8Array() }), 'could not be decoded'],
    ['a flipped bit in the data', flipped(45), 'could not be decoded'],
    ['a flipped bit in the header', flipped(29), 'the checksum of its IHDR chunk is wrong'],
    ['3 bits', png(9, 10, { data: rows, bitDepth: 3 }), 'there is no color type 0 of 3 bits'],
    ['a palette image without one', png(9, 10, { data: rows, type: 3 }), 'it has no palette'],
    ['an unknown filter', png(9, 10, { data: deflateSync(Buffer.alloc(100, 9)) }), 'names filter 9'],
  ])('%s', async (_, file, message) => {
    await expect(own(file)).rejects.toMatchObject({
      code: 'INVALID_IMAGE',
      message: expect.stringContaining(message),
    });
  });

  test('bytes that were changed in a JPEG or WebP give pixels or this error, and nothing else', async () => {
    for (const name of ['baseline.jpg', 'progressive.jpg', 'lossy.webp', 'rgba.webp']) {
      for (let at = 20; at < 400; at += 7) {
        const file = imageBytes(name);
        if (at >= file.length) break;
        file[at] = (file[at] as number) ^ (1 << (at % 8));
        const error: unknown = await own(file).then(
          () => undefined,
          (reason) => reason,
        );
        if (error) expect(error).toMatchObject({ code: expect.stringMatching(/^(INVALID_IMAGE|IMAGE_TOO_LARGE)$/) });
      }
    }
  });
});

describe('which decoder', () => {
  test('sharp where it loads; a GIF only by sharp', async () => {
    const gif = readImageHeader(imageBytes('palette.gif'));
    const file = imageBytes('palette.gif') as File;
    await expect((await chooseDecoder(gif, true)).decode(file)).resolves.toMatchObject({ width: 29 });
    const none = () =>
      loadSharp(() => Promise.reject(Object.assign(new Error('none'), { code: 'ERR_MODULE_NOT_FOUND' })));
    await expect(chooseDecoder(gif, false, none)).rejects.toMatchObject({ code: 'MISSING_PEER' });
    const jpeg = readImageHeader(imageBytes('baseline.jpg'));
    const decoder = await chooseDecoder(jpeg, false, none);
    await expect(decoder.decode(imageBytes('baseline.jpg') as File)).resolves.toMatchObject({ width: 29 });
  });

  test('a sharp that does not load says why', async () => {
    const broken = loadSharp(() => Promise.reject(new Error('libvips-cpp.so.42: cannot open')));
    await expect(broken).rejects.toThrow('it is there and does not load: libvips-cpp.so.42: cannot open');
  });
});

interface Stored {
  readonly width: number;
  readonly height: number;
  /** Of a pixel. */
  readonly bits: number;
  readonly interlaced: boolean;
}

/** Rows of noise, each with the next of the five filters. */
function storedRows({ width, height, bits, interlaced }: Stored): Buffer {
  const passes = interlaced
    ? [
        [0, 0, 8, 8],
        [4, 0, 8, 8],
        [0, 4, 4, 8],
        [2, 0, 4, 4],
        [0, 2, 2, 4],
        [1, 0, 2, 2],
        [0, 1, 1, 2],
      ]
    : [[0, 0, 1, 1]];
  const rows: Buffer[] = [];
  for (const [x = 0, y = 0, dx = 1, dy = 1] of passes) {
    const columns = Math.ceil((width - x) / dx);
    const count = Math.ceil((height - y) / dy);
    if (columns <= 0) continue;
    for (let i = 0; i < count; i++) {
      const row = Buffer.from(
        pattern(Math.ceil((columns * bits) / 8 / 3) + 1, 1, 256 - i).map((v, k) => v * (k + 3 * i)),
      );
      rows.push(Buffer.from([rows.length % 5]), row.subarray(0, Math.ceil((columns * bits) / 8)));
    }
  }
  return Buffer.concat(rows);
}
