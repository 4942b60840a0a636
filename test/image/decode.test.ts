import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { decodeImage } from '../../src/image/decode.js';
import { applyOrientation, hideExif, readOrientation } from '../../src/image/exif.js';
import { readImageHeader } from '../../src/image/header.js';
import { type RawImage, rowReader } from '../../src/image/raw-image.js';
import { finish } from '../../src/image/steps.js';
import { golden, greatestDifference, IMAGES, imageBytes, NONE, unpack } from './golden.js';

describe('files come out as Pillow reads them', () => {
  test.each(Object.keys(golden.files))('%s', async (name) => {
    const expected = golden.files[name] as (typeof golden.files)[string];
    const image = await decodeImage(imageBytes(name));
    expect([image.width, image.height, image.channels]).toEqual([expected.width, expected.height, 3]);
    expect(greatestDifference(image.data, unpack(expected.pixels))).toEqual(NONE);
  });

  test('the eight orientations are one picture, stored in eight ways', async () => {
    const sizes = new Set<string>();
    const stored = new Set<string>();
    for (let orientation = 1; orientation <= 8; orientation++) {
      const name = `orientation-${orientation}.jpg`;
      const image = await decodeImage(imageBytes(name));
      sizes.add(`${image.width}×${image.height}`);
      stored.add(Buffer.from(image.data).toString('base64'));
    }
    // The files hold the same pixels under other orientations, so that each comes out turned another way.
    expect([...sizes].sort()).toEqual(['18×29', '29×18']);
    expect(stored.size).toBe(8);
  });

  test('the profile in the test files would change the colours if it were used', async () => {
    for (const name of ['profile-swapped.png', 'profile-swapped.jpg']) {
      const used = await sharp(imageBytes(name)).raw().toBuffer();
      const expected = unpack((golden.files[name] as { pixels: string }).pixels);
      expect(greatestDifference(used, expected).difference).toBeGreaterThan(20);
    }
  });
});

describe('orientation without the decoder', () => {
  const names = Object.keys(golden.files).filter((name) => name.startsWith('orientation-'));
  test.each(names)('%s: read, hidden and applied', async (name) => {
    const bytes = new Uint8Array(imageBytes(name));
    const header = readImageHeader(bytes);
    const orientation = readOrientation(bytes, header.exif);
    expect(orientation).toBe(Number(/\d/.exec(name)?.[0]));
    const hidden = Buffer.concat(hideExif(bytes, header));
    expect((await sharp(hidden).metadata()).orientation).toBeUndefined();
    const { data, info } = await sharp(hidden, { failOn: 'warning' }).raw().toBuffer({ resolveWithObject: true });
    const upright = finish(
      applyOrientation({ data, width: info.width, height: info.height, channels: 3 }, orientation),
    );
    const expected = golden.files[name] as (typeof golden.files)[string];
    expect([upright.width, upright.height]).toEqual([expected.width, expected.height]);
    expect(greatestDifference(upright.data, unpack(expected.pixels))).toEqual(NONE);
  });

  test('EXIF data that is cut off or of another orientation type says nothing', () => {
    const tiff = new Uint8Array([0x49, 0x49, 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0]);
    const place = { at: 0, start: 0, end: tiff.length };
    expect(readOrientation(tiff, place)).toBe(6);
    expect(readOrientation(tiff, undefined)).toBe(1);
    for (let end = 0; end < 20; end++) expect(readOrientation(tiff, { ...place, end })).toBe(1);
    expect(
      readOrientation(
        Uint8Array.from(tiff, (v, i) => (i === 18 ? 9 : v)),
        place,
      ),
    ).toBe(1);
    expect(
      readOrientation(
        Uint8Array.from(tiff, (v, i) => (i === 12 ? 2 : v)),
        place,
      ),
    ).toBe(1);
  });
});

describe('every kind of input gives the same pixels', () => {
  const name = 'rgb.png';
  const bytes = imageBytes(name);
  const expected = unpack((golden.files[name] as { pixels: string }).pixels);
  const url = new URL(name, IMAGES);
  const dataUrl = `data:image/png;base64,${Buffer.from(bytes).toString('base64')}`;
  const inputs: [string, () => Parameters<typeof decodeImage>[0]][] = [
    ['path', () => fileURLToPath(url)],
    ['file: URL', () => url],
    ['file: URL as a string', () => url.href],
    ['data: URL', () => dataUrl],
    ['blob: URL', () => URL.createObjectURL(new Blob([bytes as Uint8Array<ArrayBuffer>]))],
    ['Uint8Array', () => bytes],
    ['Uint8Array in a larger buffer', () => new Uint8Array([9, ...bytes, 9]).subarray(1, bytes.length + 1)],
    ['ArrayBuffer', () => new Uint8Array(bytes).buffer],
    ['Blob', () => new Blob([bytes as Uint8Array<ArrayBuffer>])],
    ['Response', () => new Response(bytes as Uint8Array<ArrayBuffer>)],
    ['RGB', () => ({ data: expected, width: 29, height: 18, channels: 3 })],
    ['RGBA without `channels`', () => ({ data: rgba(expected), width: 29, height: 18 })],
  ];
  test.each(inputs)('%s', async (_, make) => {
    const image = await decodeImage(make());
    expect([image.width, image.height, image.channels]).toEqual([29, 18, 3]);
    expect(greatestDifference(image.data, expected)).toEqual(NONE);
  });

  test('http: URL', async () => {
    const server = createServer((_, response) => response.end(bytes)).listen(0);
    try {
      const { port } = server.address() as AddressInfo;
      const image = await decodeImage(`http://localhost:${port}/${name}`);
      expect(greatestDifference(image.data, expected)).toEqual(NONE);
    } finally {
      server.close();
    }
  });

  test('bytes may be changed as soon as the call returns, and are not changed by it', async () => {
    const gif = imageBytes('palette-transparent.gif');
    const before = new Uint8Array(gif);
    await decodeImage(gif);
    expect(gif).toEqual(before);
    const promise = decodeImage(gif);
    gif.fill(0);
    const decoded = unpack((golden.files['palette-transparent.gif'] as { pixels: string }).pixels);
    expect(greatestDifference((await promise).data, decoded)).toEqual(NONE);
  });
});

describe('raw pixels', () => {
  test('grey is repeated and alpha dropped', async () => {
    const size = { width: 2, height: 1 };
    const of = async (channels: 1 | 2 | 4, ...data: number[]): Promise<number[]> => [
      ...(await decodeImage({ data: Uint8ClampedArray.from(data), ...size, channels })).data,
    ];
    expect(await of(1, 7, 200)).toEqual([7, 7, 7, 200, 200, 200]);
    expect(await of(2, 7, 0, 200, 255)).toEqual([7, 7, 7, 200, 200, 200]);
    expect(await of(4, 1, 2, 3, 0, 4, 5, 6, 255)).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test('grey of every grey is itself', () => {
    const data = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));
    const toGrey = (image: RawImage): number[] => [...rowReader(image, 1)(0)];
    const grey = toGrey({ data, width: 256, height: 1, channels: 3 });
    expect(grey).toEqual(Array.from({ length: 256 }, (_, i) => i));
    expect(toGrey({ data: Uint8Array.from(grey), width: 128, height: 1, channels: 2 })).toEqual(
      grey.filter((_, i) => i % 2 === 0),
    );
  });
});

function rgba(rgb: Uint8Array): Uint8ClampedArray {
  const out = new Uint8ClampedArray((rgb.length / 3) * 4);
  for (let i = 0; i < rgb.length / 3; i++) {
    out.set(rgb.subarray(3 * i, 3 * i + 3), 4 * i);
    out[4 * i + 3] = i % 256;
  }
  return out;
}
