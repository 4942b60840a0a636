import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import sharp, { type Sharp } from 'sharp';
import { describe, expect, test } from 'vitest';
import { decodeImage, type ImageInput } from '../../src/image/decode.js';
import { IMAGE_LIMITS } from '../../src/image/limits.js';
import { preprocess } from '../../src/image/preprocess.js';
import { IMAGENET_PRESET } from '../../src/image/preset.js';
import type { RawImage } from '../../src/image/raw-image.js';
import { loadSharp } from '../../src/image/sharp.js';
import { stopwatch } from '../support/stopwatch.js';
import { imageBytes, pattern } from './golden.js';
import { chunk, png as makePng } from './png.js';

/** Expects this error within a second. */
async function refused(work: () => Promise<unknown>, code: string, message: string | RegExp): Promise<void> {
  const elapsed = stopwatch();
  const error: unknown = await work().then(
    () => undefined,
    (reason) => reason,
  );
  expect(error).toMatchObject({ code });
  expect((error as Error).message).toMatch(message);
  expect(elapsed()).toBeLessThan(1000);
}

/** A grey PNG that claims a size. */
function png(width: number, height: number, data: Uint8Array): Uint8Array {
  return makePng(width, height, { data });
}

function repeat(bytes: Uint8Array, times: number): Buffer {
  return Buffer.alloc(bytes.length * times, bytes);
}

describe('INVALID_IMAGE', () => {
  const source = (): Sharp => sharp(pattern(80, 60), { raw: { width: 80, height: 60, channels: 3 } });
  const formats: [string, () => Promise<Buffer>][] = [
    ['PNG', () => source().png().toBuffer()],
    ['interlaced PNG', () => source().png({ progressive: true }).toBuffer()],
    ['baseline JPEG', () => source().jpeg().toBuffer()],
    ['progressive JPEG', () => source().jpeg({ progressive: true }).toBuffer()],
    ['lossy WebP', () => source().webp().toBuffer()],
    ['lossless WebP', () => source().webp({ lossless: true }).toBuffer()],
    ['GIF', () => source().gif().toBuffer()],
  ];
  test.each(formats)('%s truncated at any of many lengths', async (_, make) => {
    const bytes = await make();
    await expect(decodeImage(bytes)).resolves.toMatchObject({ width: 80, height: 60 });
    const lengths = new Set([1, 2, 3, 4, 8, 12, 16, 20, 30, 33]);
    for (let part = 1; part < 30; part++) {
      lengths.add(bytes.length - part);
      lengths.add(Math.floor((bytes.length * part) / 30));
    }
    for (const length of lengths) {
      await refused(() => decodeImage(bytes.subarray(0, length)), 'INVALID_IMAGE', /truncated|Expected a JPEG/);
    }
  });

  test('a PNG that is whole but whose pixels end early', async () => {
    const rows = deflateSync(Buffer.alloc(101 * 50));
    await refused(() => decodeImage(png(100, 100, rows)), 'INVALID_IMAGE', 'A PNG image could not be decoded');
    await refused(() => decodeImage(png(100, 100, rows.subarray(0, 10))), 'INVALID_IMAGE', 'could not be decoded');
    await refused(() => decodeImage(png(9000, 9000, rows)), 'INVALID_IMAGE', 'could not be decoded');
  });

  test('a flipped bit in a PNG', async () => {
    const bytes = imageBytes('rgb.png');
    bytes[200] = (bytes[200] as number) ^ 1;
    await refused(() => decodeImage(bytes), 'INVALID_IMAGE', 'could not be decoded');
  });

  test.each([
    ['animated.gif', 'got a GIF image of 3 frames'],
    ['animated.png', 'got a PNG image of 2 frames'],
    ['animated.webp', 'got a WebP image of 2 frames'],
  ])('%s', async (name, message) => {
    await refused(() => decodeImage(imageBytes(name)), 'INVALID_IMAGE', message);
  });

  test.each([
    ['', /got nothing \(0 bytes\)/],
    ['hello, world', /got none of these \(12 bytes, beginning 68 65 6c 6c 6f 2c 20 77\)/],
    ['<!doctype html><title>404</title>', /a web page/],
    ['<svg xmlns="http://www.w3.org/2000/svg"/>', /an SVG file/],
    ['%PDF-1.7', /a PDF file/],
    ['BM123456', /a BMP file/],
    ['\0\0\0\x1cftypavif', /an AVIF file/],
  ])('not an image: %j', async (text, message) => {
    await refused(() => decodeImage(Buffer.from(text, 'latin1')), 'INVALID_IMAGE', message);
  });

  test('formats that sharp reads but this library does not are refused alike everywhere', async () => {
    const tiff = await sharp(pattern(8, 8), { raw: { width: 8, height: 8, channels: 3 } })
      .tiff()
      .toBuffer();
    await refused(() => decodeImage(tiff), 'INVALID_IMAGE', 'got a TIFF file');
  });

  test.each<[string, () => Uint8Array, string]>([
    [
      'chunks',
      () => makePng(9, 9, { data: new Uint8Array(), between: repeat(chunk('tEXt', Buffer.alloc(0)), 1_300_000) }),
      'at most 65536 chunks in a PNG image',
    ],
    [
      'segments',
      () => Buffer.concat([Uint8Array.of(0xff, 0xd8), repeat(Uint8Array.of(0xff, 0xfe, 0, 2), 1_300_000)]),
      'at most 65536 segments in a JPEG image',
    ],
    [
      'scans',
      () => Buffer.concat([Uint8Array.of(0xff, 0xd8), repeat(Uint8Array.of(0xff, 0xda, 0, 2, 1), 1000)]),
      'at most 100 scans in a JPEG image',
    ],
    [
      'blocks',
      () => Buffer.concat([Buffer.from('GIF89a'), Buffer.alloc(7), repeat(Uint8Array.of(0x21, 0xfe, 0), 1_300_000)]),
      'at most 65536 blocks in a GIF image',
    ],
    [
      'chunks of a WebP',
      () => {
        const chunks = repeat(Buffer.from('JUNK\0\0\0\0'), 1_300_000);
        const head = Buffer.from('RIFF\0\0\0\0WEBP');
        head.writeUInt32LE(chunks.length + 4, 4);
        return Buffer.concat([head, chunks]);
      },
      'at most 65536 chunks in a WebP image',
    ],
  ])('too many %s', async (_, make, message) => {
    const file = make();
    await refused(() => decodeImage(file), 'INVALID_IMAGE', message);
  });

  test.each(['zTXt', 'iTXt', 'iCCP'])('deflated megabytes in %s chunks are not inflated', async (type) => {
    const texts = deflateSync(Buffer.alloc(7_900_000, 65));
    const content = Buffer.concat([Buffer.from(type === 'iTXt' ? 'key\0\x01\0\0\0' : 'key\0\0'), texts]);
    const rows = deflateSync(Buffer.alloc(10 * 10));
    const file = makePng(9, 10, { data: rows, between: repeat(chunk(type, content), 300) });
    const before = process.resourceUsage().maxRSS;
    const elapsed = stopwatch();
    await decodeImage(file);
    expect(elapsed()).toBeLessThan(2000);
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(200_000);
  });

  test('a walk over stuffed bytes gives the thread back', async () => {
    // 24 MiB, each second byte of which has to be looked at.
    const stuffed = repeat(Uint8Array.of(0xff, 0), 12 * 2 ** 20);
    const file = Buffer.concat([Uint8Array.of(0xff, 0xd8, 0xff, 0xda, 0, 2), stuffed]);
    let turns = 0;
    const count = (): void => {
      turns++;
      timer = setImmediate(count);
    };
    let timer = setImmediate(count);
    await expect(decodeImage(file)).rejects.toMatchObject({ code: 'INVALID_IMAGE' });
    clearImmediate(timer);
    expect(turns).toBeGreaterThan(10);
  });

  test('no pixels', async () => {
    await refused(() => decodeImage(png(0, 100, Buffer.alloc(0))), 'INVALID_IMAGE', 'at least 1×1 pixels, got 0×100');
    const jpeg = imageBytes('baseline.jpg');
    const frame = Buffer.from(jpeg).indexOf(Buffer.from([0xff, 0xc0]));
    jpeg.fill(0, frame + 5, frame + 7);
    await refused(() => decodeImage(jpeg), 'INVALID_IMAGE', 'A JPEG image must be at least 1×1 pixels, got 29×0');
    await refused(() => decodeImage(Uint8Array.of(0xff, 0xd8, 0xff, 0xd9)), 'INVALID_IMAGE', 'without a size');
  });

  test('a detached buffer of file bytes', async () => {
    const bytes = imageBytes('rgb.png');
    structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
    await refused(() => decodeImage(bytes), 'INVALID_IMAGE', 'got nothing (0 bytes)');
    await refused(() => decodeImage(bytes.buffer as ArrayBuffer), 'INVALID_IMAGE', 'got nothing (0 bytes)');
  });

  const detached = new Uint8Array(12);
  structuredClone(detached.buffer, { transfer: [detached.buffer] });
  const raw: [string, unknown, string][] = [
    [
      'data shorter than its size',
      { data: new Uint8Array(11), width: 2, height: 2, channels: 3 },
      'need 12 values, got 11',
    ],
    ['data longer', { data: new Uint8Array(13), width: 2, height: 2, channels: 3 }, 'need 12 values, got 13'],
    ['RGB without `channels`', { data: new Uint8Array(12), width: 2, height: 2 }, '4 channels, unless `channels` says'],
    ['detached', { data: detached, width: 2, height: 2, channels: 3 }, 'the buffer is detached'],
    ['zero size', { data: new Uint8Array(0), width: 0, height: 2 }, 'got 0×2'],
    ['negative size', { data: new Uint8Array(4), width: -1, height: -1 }, 'got -1×-1'],
    ['fractional size', { data: new Uint8Array(4), width: 0.5, height: 2 }, 'got 0.5×2'],
    ['5 channels', { data: new Uint8Array(5), width: 1, height: 1, channels: 5 }, 'channels, got 5'],
    ['floats', { data: new Float32Array(4), width: 1, height: 1 }, 'got Float32Array'],
    ['null', { data: null, width: 1, height: 1 }, 'got null'],
  ];
  test.each(raw)('raw pixels: %s', async (_, image, message) => {
    await refused(() => decodeImage(image as RawImage), 'INVALID_IMAGE', message);
    expect(() => preprocess(image as RawImage, IMAGENET_PRESET)).toThrow(
      expect.objectContaining({ code: 'INVALID_IMAGE', message: expect.stringContaining(message) }),
    );
  });
});

describe('IMAGE_TOO_LARGE', () => {
  test('the limits', () => {
    expect(IMAGE_LIMITS).toEqual({ pixels: 100_000_000, side: 32_767, bytes: 67_108_864 });
  });

  test.each([
    [60_000, 60_000],
    [32_768, 1],
    [1, 32_768],
    [10_001, 10_000],
    [4_294_967_295, 4_294_967_295],
  ])('a PNG that claims %i×%i, before it is decoded', async (width, height) => {
    const data = deflateSync(Buffer.alloc(1_000_000));
    await refused(
      () => decodeImage(png(width, height, data)),
      'IMAGE_TOO_LARGE',
      `100 megapixels, got ${width}×${height}`,
    );
  });

  test('raw pixels', async () => {
    const image = { data: new Uint8Array(4), width: 40_000, height: 1 };
    await refused(() => decodeImage(image), 'IMAGE_TOO_LARGE', 'got 40000×1');
  });

  test('bytes, Blob and file over the limit', async () => {
    const large = new Uint8Array(IMAGE_LIMITS.bytes + 1);
    const message = 'at most 67108864 bytes, got 67108865';
    await refused(() => decodeImage(large), 'IMAGE_TOO_LARGE', message);
    await refused(() => decodeImage(large.buffer), 'IMAGE_TOO_LARGE', message);
    await refused(() => decodeImage(new Blob([large])), 'IMAGE_TOO_LARGE', message);
    const folder = mkdtempSync(join(tmpdir(), 'vggnet-'));
    try {
      const path = join(folder, 'large.png');
      writeFileSync(path, '');
      truncateSync(path, IMAGE_LIMITS.bytes + 1);
      await refused(() => decodeImage(path), 'IMAGE_TOO_LARGE', message);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('a response that states too many bytes, and one that does not say', async () => {
    let cancelled = 0;
    const endless = (): ReadableStream<Uint8Array> =>
      new ReadableStream({
        pull: (controller) => controller.enqueue(new Uint8Array(2 ** 22)),
        cancel: () => {
          cancelled++;
        },
      });
    const stated = new Response(endless(), { headers: { 'content-length': '100000000' } });
    await refused(() => decodeImage(stated), 'IMAGE_TOO_LARGE', 'got 100000000');
    await refused(() => decodeImage(new Response(endless())), 'IMAGE_TOO_LARGE', 'got more');
    expect(cancelled).toBe(2);
  });
});

async function withServer(listener: RequestListener, use: (url: string) => Promise<void>): Promise<void> {
  const server = createServer(listener).listen(0);
  try {
    await use(`http://localhost:${(server.address() as AddressInfo).port}/`);
  } finally {
    server.closeAllConnections();
    server.close();
  }
}

describe('IO', () => {
  test('a missing file, a folder, a device', async () => {
    await refused(() => decodeImage('no/such/file.png'), 'IO', /'no\/such\/file\.png': ENOENT/);
    await refused(() => decodeImage(new URL('file:///no/such/file.png')), 'IO', /ENOENT/);
    await refused(() => decodeImage(tmpdir()), 'IO', 'not a regular file');
    await refused(() => decodeImage('/dev/zero'), 'IO', 'not a regular file');
    await refused(() => decodeImage('a\0b'), 'IO', 'null bytes');
  });

  test('a status, a refused connection, a connection that breaks', async () => {
    const gone: RequestListener = (_, response) => response.writeHead(404).end('<html>');
    await withServer(gone, async (url) => {
      await refused(() => decodeImage(url), 'IO', `${url} gave status 404 Not Found`);
    });
    const broken: RequestListener = (_, response) => {
      response.writeHead(200, { 'content-length': '1000' });
      response.write('\x89PNG', () => response.destroy());
    };
    await withServer(broken, async (url) => {
      await refused(() => decodeImage(url), 'IO', `from ${url}`);
    });
    let closed = '';
    await withServer(gone, async (url) => {
      closed = url;
    });
    await refused(() => decodeImage(closed), 'IO', `Could not fetch the image from ${closed}`);
  });

  test('a Response that failed, or was read', async () => {
    await refused(() => decodeImage(new Response('x', { status: 500 })), 'IO', 'status 500');
    const read = new Response('x');
    await read.text();
    await refused(() => decodeImage(read), 'IO', 'was read already');
  });

  test('a data: URL that is none', async () => {
    await refused(() => decodeImage('data:nonsense'), 'IO', 'Could not fetch');
  });

  test('secrets of URLs are in no message', async () => {
    const messageOf = async (input: string | URL): Promise<string> => {
      const error: unknown = await decodeImage(input).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'IO' });
      return String(error);
    };
    const forbidden: RequestListener = (_, response) => response.writeHead(403).end();
    await withServer(forbidden, async (url) => {
      const withUser = url.replace('//', '//u:SECRET@');
      for (const text of [`${url}?sig=SECRET`, `${url}it's.png?sig=SECRET#SECRET`, withUser]) {
        for (const input of [text, new URL(text)]) expect(await messageOf(input)).not.toContain('SECRET');
      }
    });
    const unfit = ['ftp://u:SECRET@h/x.png?k=SECRET', 'http://[x?k=SECRET', 'http://u:SEC/SECRET@h/x.png'];
    const closed = ['http://127.0.0.1:1/x.png?k=SECRET', 'http://u:SECRET@127.0.0.1:1/x.png'];
    for (const text of [...unfit, ...closed]) expect(await messageOf(text)).not.toContain('SECRET');
  });

  test('user and password of a URL are sent as a header', async () => {
    const asked: (string | undefined)[] = [];
    const answer: RequestListener = (request, response) => {
      asked.push(request.headers.authorization);
      response.end(imageBytes('rgb.png'));
    };
    await withServer(answer, async (url) => {
      for (const user of ['u:p%40ss', 'u:100%']) await decodeImage(url.replace('//', `//${user}@`));
      await decodeImage(url);
    });
    const basic = (text: string): string => `Basic ${btoa(text)}`;
    expect(asked).toEqual([basic('u:p@ss'), basic('u:100%'), undefined]);
  });
});

describe('ABORTED', () => {
  const reason = new Error('enough');

  test('before it begins', async () => {
    const signal = AbortSignal.abort(reason);
    for (const input of [imageBytes('rgb.png'), 'no/such/file.png', { data: new Uint8Array(4), width: 1, height: 1 }]) {
      await expect(decodeImage(input, { signal })).rejects.toMatchObject({ code: 'ABORTED', cause: reason });
    }
  });

  test('while a server, or a stream, gives nothing more', async () => {
    const silent: RequestListener = (_, response) => void response.writeHead(200).write('\x89PNG');
    await withServer(silent, async (url) => {
      const controller = new AbortController();
      setTimeout(() => controller.abort(reason), 50);
      await refused(() => decodeImage(url, { signal: controller.signal }), 'ABORTED', 'AbortSignal');
    });
    let cancelled: unknown;
    const controller = new AbortController();
    const body = new ReadableStream({
      cancel: (why) => {
        cancelled = why;
      },
    });
    setTimeout(() => controller.abort(reason), 50);
    await refused(() => decodeImage(new Response(body), { signal: controller.signal }), 'ABORTED', 'AbortSignal');
    expect(cancelled).toBe(reason);
  });

  test('while it is decoded', async () => {
    const bytes = png(6000, 6000, deflateSync(Buffer.alloc(6001 * 6000)));
    const controller = new AbortController();
    setTimeout(() => controller.abort(reason), 20);
    await expect(decodeImage(bytes, { signal: controller.signal })).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

describe('other errors', () => {
  test.each([null, undefined, 7, {}, [], new Float32Array(4), Promise.resolve()])('%s is no input', async (input) => {
    await refused(() => decodeImage(input as unknown as ImageInput), 'INVALID_ARGUMENT', 'An image is a path, URL');
  });

  test('a URL object of another scheme', async () => {
    await refused(() => decodeImage(new URL('ftp://example.org/a.png')), 'INVALID_ARGUMENT', "got 'ftp:'");
  });

  test('sharp is not installed', async () => {
    const missing = Object.assign(new Error("Cannot find package 'sharp'"), { code: 'ERR_MODULE_NOT_FOUND' });
    const load = loadSharp(() => Promise.reject(missing));
    await expect(load).rejects.toMatchObject({ code: 'MISSING_PEER', cause: missing });
    await expect(load).rejects.toThrow('npm install sharp');
  });
});
