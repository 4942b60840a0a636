import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { Tensor } from '../../src/tensor.js';
import { redactUrls } from '../../src/url.js';
import type { WeightsInput } from '../../src/weights/bytes/bytes.js';
import type { LoadProgress } from '../../src/weights/bytes/progress.js';
import { openWeights } from '../../src/weights/open.js';
import { saveFile } from '../../src/weights/save-file.js';
import { saveSafetensors } from '../../src/weights/write.js';
import { stopwatch } from '../support/stopwatch.js';
import { collect, readAll } from './collect.js';
import { streamOf } from './rawfile.js';

const tensor = Tensor.randn([40, 100], { seed: 5 });
const file = saveSafetensors({ 'features.0.weight': tensor });
const folder = mkdtempSync(join(tmpdir(), 'vggnet-bytes-'));
const path = join(folder, 'w & ü.safetensors');
let server: Server;
let origin: string;
/** Where nobody listens any more. */
let closed: string;

beforeAll(async () => {
  writeFileSync(path, file);
  server = createServer((request, response) => {
    const { pathname } = new URL(request.url ?? '/', 'http://x');
    if (pathname === '/missing') {
      response.writeHead(404).end('no');
    } else if (pathname === '/short') {
      response.writeHead(200, { 'content-length': file.length });
      response.write(file.subarray(0, 1000), () => response.destroy());
    } else if (pathname === '/hang') {
      response.writeHead(200, { 'content-length': file.length });
      response.write(file.subarray(0, 1000));
    } else if (pathname !== '/never') {
      response.writeHead(200, { 'content-length': file.length }).end(file);
    }
  });
  origin = await listen(server);
  const gone = createServer();
  closed = await listen(gone);
  await new Promise((resolve) => gone.close(resolve));
});

async function listen(on: Server): Promise<string> {
  await new Promise<void>((resolve) => on.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(on.address() as AddressInfo).port}`;
}

afterAll(() => {
  server.closeAllConnections();
  server.close();
  rmSync(folder, { recursive: true });
});

const read = async (input: WeightsInput): Promise<Float32Array | undefined> =>
  (await readAll(await openWeights(input))).get('features.0.weight');

const base64 = Buffer.from(file).toString('base64');

describe('every kind of input', () => {
  test.each<[string, () => WeightsInput]>([
    ['a path', () => path],
    ['a file: URL', () => pathToFileURL(path)],
    ['a file: URL as text', () => pathToFileURL(path).href],
    ['an http: URL', () => new URL(`${origin}/w`)],
    ['an http: URL as text', () => `${origin}/w?key=secret`],
    ['a data: URL', () => `data:application/octet-stream;base64,${base64}`],
    ['a blob: URL', () => URL.createObjectURL(new Blob([file]))],
    ['a Uint8Array', () => file],
    ['a part of a buffer', () => Buffer.concat([Buffer.alloc(3), file]).subarray(3)],
    ['an ArrayBuffer', () => file.buffer],
    ['a Blob', () => new Blob([file])],
    ['a File', () => new File([file], 'w.safetensors')],
    ['a Response', () => new Response(file)],
    ['a stream', () => streamOf(file, 333)],
    ['a Node stream, turned', () => Readable.toWeb(Readable.from([file])) as ReadableStream<Uint8Array>],
  ])('%s', async (_, input) => {
    expect(await read(input())).toEqual(tensor.data);
  });

  test.each<[string, () => unknown, string, RegExp]>([
    ['undefined', () => undefined, 'INVALID_ARGUMENT', /got undefined/],
    ['null', () => null, 'INVALID_ARGUMENT', /got null/],
    ['a number', () => 3, 'INVALID_ARGUMENT', /got number/],
    ['an object', () => ({}), 'INVALID_ARGUMENT', /got Object/],
    ['floats', () => new Float32Array(3), 'INVALID_ARGUMENT', /got Float32Array/],
    ['an empty string', () => '', 'INVALID_ARGUMENT', /empty string/],
    ['a Node stream', () => Readable.from([file]), 'INVALID_ARGUMENT', /Readable\.toWeb/],
    ['no such file', () => join(folder, 'none'), 'IO', /Could not open '.*none': ENOENT/],
    ['a folder', () => folder, 'IO', /got a directory/],
    ['a device', () => '/dev/zero', 'IO', /got a device or pipe/],
    ['a path with a zero', () => 'a\0b', 'IO', /Could not open/],
    ['a file: URL with a host', () => new URL('file://host/x'), 'IO', /Could not open/],
    ['HTTP 404', () => `${origin}/missing`, 'IO', /\/missing: HTTP 404/],
    ['no server', () => `${closed}/x?key=secret`, 'IO', /Could not fetch http:\/\/127\.0\.0\.1:\d+\/x: .*ECONNREFUSED/],
    ['a connection that breaks', () => `${origin}/short`, 'IO', /Could not read http/],
    ['a Response that failed', () => new Response('x', { status: 500 }), 'IO', /HTTP 500/],
    ['a Response without a body', () => new Response(null), 'INVALID_WEIGHTS_FILE', /at least 8 bytes, got 0/],
    [
      'a stream of text',
      () => new Blob(['abcdefghi']).stream().pipeThrough(new TextDecoderStream()),
      'INVALID_ARGUMENT',
      /got string/,
    ],
    [
      'a stream that fails',
      () => new ReadableStream({ pull: () => Promise.reject(new Error('broken')) }),
      'IO',
      /broken/,
    ],
    [
      'a stream of nothing for ever',
      () => new ReadableStream({ pull: (controller) => controller.enqueue(new Uint8Array(0)) }),
      'IO',
      /empty chunks/,
    ],
  ])('%s is refused', async (_, input, code, message) => {
    const elapsed = stopwatch();
    const reading = read(input() as WeightsInput);
    await expect(reading).rejects.toMatchObject({ name: 'VGGNetError', code, message: expect.stringMatching(message) });
    await expect(reading).rejects.not.toMatchObject({ message: expect.stringContaining('secret') });
    expect(elapsed()).toBeLessThan(1000);
  });

  test('a stream or Response in use is refused', async () => {
    const stream = streamOf(file);
    stream.getReader();
    await expect(read(stream)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const response = new Response(file);
    await response.arrayBuffer();
    await expect(read(response)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test('bytes that are taken away, or a file that shrinks, end early', async () => {
    const bytes = file.slice();
    const source = await openWeights(bytes);
    structuredClone(bytes.buffer, { transfer: [bytes.buffer] });
    await expect(readAll(source)).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('detached or resized while they were read'),
    });
    await expect(openWeights(bytes.buffer)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });

    const shrinking = join(folder, 'shrinking');
    writeFileSync(shrinking, file);
    const second = await openWeights(shrinking);
    truncateSync(shrinking, 5000);
    await expect(readAll(second)).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS_FILE',
      message: expect.stringContaining('ends early at byte 5000'),
    });
  });
});

describe('inputs that lie', () => {
  const blobOf = (give: (from: number, to: number) => unknown, size: number = file.length): Blob =>
    ({
      size,
      slice: (from: number, to: number) => ({ arrayBuffer: async () => give(from, to) }),
      arrayBuffer() {},
    }) as never;
  const exact = (from: number, to: number): ArrayBuffer => file.slice(from, to).buffer;
  test.each<[string, Blob, string]>([
    ['gives more', blobOf((from, to) => exact(from, to + 9)), 'IO'],
    ['gives less', blobOf((from, to) => exact(from, Math.max(from, to - 1))), 'IO'],
    ['gives no buffer', blobOf(() => 1e9), 'IO'],
    ['gives nothing', blobOf(() => undefined), 'IO'],
    ['has no size', blobOf(exact, Number.NaN), 'INVALID_ARGUMENT'],
    ['is longer than it says', blobOf(exact, file.length - 1), 'INVALID_WEIGHTS_FILE'],
  ])('a Blob that %s', async (_, blob, code) => {
    await expect(read(blob)).rejects.toMatchObject({ name: 'VGGNetError', code });
  });

  test('a stream whose chunk is detached while it is read', async () => {
    const chunk = file.slice();
    const source = await openWeights(
      new ReadableStream({
        start(controller) {
          controller.enqueue(chunk);
          controller.close();
        },
      }),
    );
    structuredClone(chunk.buffer, { transfer: [chunk.buffer] });
    await expect(readAll(source)).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining('detached') });
  });

  test.each<[string, unknown]>([
    ['gives nothing', { read: async () => undefined }],
    [
      'throws',
      {
        read() {
          throw new Error('no');
        },
      },
    ],
    ['is none', undefined],
  ])('a stream whose reader %s', async (_, reader) => {
    const stream = { getReader: () => Object.assign(reader as object, { cancel: async () => {} }) };
    await expect(read(stream as never)).rejects.toMatchObject({ name: 'VGGNetError' });
  });

  test('an async callback that rejects is a typed error', async () => {
    const onProgress = async (): Promise<void> => {
      throw new Error('mine');
    };
    const source = await openWeights(file.slice(), { onProgress: onProgress as never });
    await expect(readAll(source)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: 'onProgress failed: mine',
    });
  });
});

describe('secrets of URLs', () => {
  test.each([
    ['https://u:SECRET@example.org/w.pth?sig=SECRET#SECRET', 'https://example.org/w.pth'],
    ['fetch of ftp://a@b:SECRET@host failed', 'fetch of ftp://host failed'],
    ["'http://[bad?sig=SECRET' is no URL", "'http://[bad' is no URL"],
    ['https://host/a@b/c', 'https://host/a@b/c'],
    ["'https://host/it's.png?sig=SECRET': failed", "'https://host/it's.png': failed"],
    ['https://u:SEC/SECRET@host/', 'https://…'],
    ['https://u:SEC#SECRET@host/', 'https://…'],
    ['no URL at all?', 'no URL at all?'],
  ])('%s', (text, shown) => {
    expect(redactUrls(text)).toBe(shown);
  });

  test('are in no message', async () => {
    const urls = [
      `${origin}/missing?sig=SECRET`,
      `${origin.replace('//', '//u:SECRET@')}/missing`,
      'ftp://u:SECRET@h/x?k=SECRET',
      'http://[x?k=SECRET',
    ];
    for (const url of urls) {
      const error: unknown = await openWeights(url).catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({ code: 'IO' });
      expect(String(error)).not.toContain('SECRET');
    }
  });
});

describe('where there are no files', () => {
  afterEach(() => {
    vi.restoreAllMocks();
    vi.unstubAllGlobals();
  });

  test('a path is a URL relative to the page', async () => {
    vi.spyOn(process, 'getBuiltinModule').mockReturnValue(undefined as never);
    vi.stubGlobal('location', { href: `${origin}/demo/index.html` });
    expect(await read('w.safetensors')).toEqual(tensor.data);
    await expect(read('/missing')).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining('HTTP 404') });
  });

  test('a path without a page, and a file: URL, are refused', async () => {
    vi.spyOn(process, 'getBuiltinModule').mockReturnValue(undefined as never);
    await expect(read('w.safetensors')).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('no files'),
    });
    await expect(read(pathToFileURL(path))).rejects.toMatchObject({ code: 'IO' });
    await expect(saveFile('x', streamOf(file))).rejects.toMatchObject({ code: 'IO' });
  });
});

describe('the signal', () => {
  const reason = new Error('enough');

  test.each<[string, () => WeightsInput]>([
    ['a path', () => path],
    ['bytes', () => file],
    ['a URL', () => `${origin}/w`],
  ])('one that has fired opens nothing: %s', async (_, input) => {
    const opening = openWeights(input(), { signal: AbortSignal.abort(reason) });
    await expect(opening).rejects.toMatchObject({ name: 'AbortError', code: 'ABORTED', cause: reason });
  });

  test('it ends a fetch without an answer', async () => {
    const opening = openWeights(`${origin}/never`, { signal: AbortSignal.timeout(50) });
    await expect(opening).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('it ends reading, given at opening or at reading', async () => {
    for (const early of [true, false]) {
      const controller = new AbortController();
      const source = await openWeights(`${origin}/hang`, early ? { signal: controller.signal } : {});
      setTimeout(() => controller.abort(reason), 50);
      const reading = collect(source.chunks(new Set(['features.0.weight']), early ? undefined : controller.signal));
      await expect(reading).rejects.toMatchObject({ code: 'ABORTED' });
    }
  });

  test('it cancels a stream that gives nothing, within its header and after it', async () => {
    for (const given of [20, 1000]) {
      let cancelled = false;
      const stream = new ReadableStream<Uint8Array>({
        start: (controller) => controller.enqueue(file.slice(0, given)),
        cancel: () => {
          cancelled = true;
        },
      });
      const signal = AbortSignal.timeout(30);
      await expect(openWeights(stream, { signal }).then(readAll)).rejects.toMatchObject({ code: 'ABORTED' });
      expect(cancelled).toBe(true);
    }
  });

  test('no listener stays', async () => {
    const { signal } = new AbortController();
    let listeners = 0;
    const add = signal.addEventListener.bind(signal);
    const remove = signal.removeEventListener.bind(signal);
    signal.addEventListener = (...args: Parameters<typeof add>) => {
      listeners++;
      add(...args);
    };
    signal.removeEventListener = (...args: Parameters<typeof remove>) => {
      listeners--;
      remove(...args);
    };
    await readAll(await openWeights(streamOf(file, 500), { signal }));
    await new Promise((resolve) => setTimeout(resolve, 0));
    expect(listeners).toBe(0);
  });
});

describe('progress', () => {
  test.each<[string, () => WeightsInput, number | undefined]>([
    ['a path', () => path, file.length],
    ['a URL', () => `${origin}/w`, file.length],
    ['a stream', () => streamOf(file), undefined],
  ])('of %s', async (_, input, total) => {
    const reports: LoadProgress[] = [];
    await readAll(await openWeights(input(), { onProgress: (progress) => reports.push(progress) }));
    expect(reports.at(-1)).toEqual(total === undefined ? { loaded: file.length } : { loaded: file.length, total });
    for (const [i, { loaded }] of reports.entries()) expect(loaded).toBeGreaterThanOrEqual(reports[i - 1]?.loaded ?? 0);
  });

  test('at most 20 times a second, and once at the end', async () => {
    const slow = new ReadableStream<Uint8Array>({
      async start(controller) {
        for (let at = 0; at < file.length; at += 200) {
          controller.enqueue(file.slice(at, at + 200));
          await new Promise((resolve) => setTimeout(resolve, 4));
        }
        controller.close();
      },
    });
    const many = saveSafetensors(
      Object.fromEntries(Array.from({ length: 500 }, (_, i) => [`t${i}`, Tensor.zeros([1])])),
    );
    const reports: number[] = [];
    const start = performance.now();
    const onProgress = ({ loaded }: LoadProgress): number => reports.push(loaded);
    await readAll(await openWeights(slow, { onProgress }));
    await readAll(await openWeights(many, { onProgress }));
    // One at the beginning and one at the end of each.
    expect(reports.length).toBeLessThanOrEqual(4 + (performance.now() - start) / 50);
    expect(reports.at(-1)).toBe(many.length);
  });

  test('what it throws ends reading and closes the source', async () => {
    const stream = streamOf(file);
    const onProgress = (): void => {
      throw new RangeError('mine');
    };
    await expect(openWeights(stream, { onProgress })).rejects.toThrow(RangeError);
    expect(stream.cancelled).toBe(true);
  });
});
