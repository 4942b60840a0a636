import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { PretrainedFile } from '../../src/hub/catalog.js';
import { type FetchOptions, fetchWeights } from '../../src/hub/weights.js';
import { contents, newFolder, removeFolder } from './folder.js';
import { type Answer, randomFile, SIZE, send, serveWeights, sha256, type WeightServer } from './server.js';

const bytes = randomFile();
const DONE = ['small.safetensors', 'small.safetensors.json'];
const KEPT = ['small.safetensors.TOKEN.partial', 'small.safetensors.resume'];

let folder: string;
let server: WeightServer;

beforeEach(async () => {
  folder = await newFolder();
});
afterEach(async () => {
  await server?.close();
  await removeFolder(folder);
});

async function serve(answer: Answer): Promise<PretrainedFile> {
  server = await serveWeights(answer);
  return server.file(bytes);
}

function get(file: PretrainedFile, options: FetchOptions = {}): Promise<unknown> {
  return fetchWeights(file, { cacheDir: folder, retryDelay: 10, stallTimeout: 5_000, ...options });
}

/** The file that was asked for is there, is the right one, and nothing else is. */
async function expectDone(path: unknown): Promise<void> {
  expect(path).toBe(join(folder, 'small.safetensors'));
  expect(Buffer.compare(readFileSync(path as string), bytes)).toBe(0);
  expect(await contents(folder)).toEqual(DONE);
}

describe('a good server', () => {
  test('gives the file once, with progress; from then on none is asked', async () => {
    const file = await serve((request, response) => send(request, response, bytes));
    const seen: { loaded: number; total?: number }[] = [];
    await expectDone(await get(file, { onProgress: (progress) => seen.push(progress) }));
    expect(seen.at(-1)).toEqual({ loaded: SIZE, total: SIZE });
    expect(seen.every(({ loaded }, i) => loaded >= (seen[i - 1]?.loaded ?? 0))).toBe(true);
    await server.close();
    await expectDone(await get(file));
    expect(server.asked).toEqual([{ url: '/small.safetensors', range: undefined, ifRange: undefined }]);
  });

  test('may send it without a length, and a digest may be known by its first digits alone', async () => {
    const file = await serve((_, response) => {
      response.write(bytes.subarray(0, 1000));
      response.end(bytes.subarray(1000));
    });
    await expectDone(await get({ ...file, sha256: file.sha256.slice(0, 8) }));
  });

  test('may redirect', async () => {
    const file = await serve((request, response) =>
      request.url === '/elsewhere?key=1'
        ? send(request, response, bytes)
        : response.writeHead(302, { location: '/elsewhere?key=1' }).end(),
    );
    await expectDone(await get(file));
  });

  test('may be a mirror under a path', async () => {
    const file = await serve((request, response) => send(request, response, bytes));
    const official = { ...file, url: 'https://official.invalid/models/small.safetensors' };
    await expectDone(await get(official, { baseUrl: `${server.url}/mirror/?key=secret` }));
    expect(server.asked[0]?.url).toBe('/mirror/models/small.safetensors?key=secret');
  });

  test.each(['ftp://example.org', 'mirror', ''])('baseUrl %j is refused', async (baseUrl) => {
    const file = await serve((request, response) => send(request, response, bytes));
    await expect(get(file, { baseUrl })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(server.asked).toEqual([]);
  });
});

describe('a cut', () => {
  test('is gone on from, if the file is still the same', async () => {
    const file = await serve((request, response, index) =>
      send(request, response, bytes, index < 3 ? { cutAfter: 50_000 } : {}),
    );
    await expectDone(await get(file));
    expect(server.asked.map(({ range }) => range)).toEqual([
      undefined,
      'bytes=50000-',
      'bytes=100000-',
      'bytes=150000-',
    ]);
    expect(server.asked.slice(1).every(({ ifRange }) => ifRange === '"one"')).toBe(true);
  });

  test('is gone on from by the date, where the tag is weak', async () => {
    const lastModified = 'Tue, 01 Jan 2019 00:00:00 GMT';
    const file = await serve((request, response, index) =>
      send(request, response, bytes, { etag: '', lastModified, ...(index === 0 && { cutAfter: 50_000 }) }),
    );
    await expectDone(await get(file));
    expect(server.asked[1]).toMatchObject({ range: 'bytes=50000-', ifRange: lastModified });
  });

  test('begins again if the file was changed: the two are not joined', async () => {
    const old = randomFile();
    const file = await serve((request, response, index) =>
      index === 0
        ? send(request, response, old, { etag: '"old"', cutAfter: 50_000 })
        : send(request, response, bytes, { etag: '"new"' }),
    );
    const seen: number[] = [];
    await expectDone(await get(file, { onProgress: ({ loaded }) => seen.push(loaded) }));
    expect(server.asked).toHaveLength(2);
    expect(seen.at(-1)).toBe(SIZE);
  });

  test('begins again if a server sends a part of the changed file all the same', async () => {
    const old = randomFile();
    const file = await serve((request, response, index) => {
      if (index === 0) return send(request, response, old, { etag: '"old"', cutAfter: 50_000 });
      // Without a look at If-Range.
      delete request.headers['if-range'];
      return send(request, response, bytes, { etag: '"new"' });
    });
    await expectDone(await get(file));
    expect(server.asked.map(({ range }) => range)).toEqual([undefined, 'bytes=50000-', undefined]);
  });

  test('begins again where ranges are ignored', async () => {
    const file = await serve((request, response, index) =>
      send(request, response, bytes, { ignoreRange: true, ...(index === 0 && { cutAfter: 50_000 }) }),
    );
    await expectDone(await get(file));
  });

  test('begins again if the part is another than was asked for', async () => {
    const file = await serve((request, response, index) => {
      if (index !== 1) return send(request, response, bytes, index === 0 ? { cutAfter: 50_000 } : {});
      const headers = { etag: '"one"', 'content-range': `bytes 0-${SIZE - 1}/${SIZE}`, 'content-length': SIZE };
      return response.writeHead(206, headers).end(bytes);
    });
    await expectDone(await get(file));
    expect(server.asked).toHaveLength(3);
  });

  test('of which no end comes is an error, and a later call goes on', async () => {
    let good = false;
    const file = await serve((request, response) => send(request, response, bytes, good ? {} : { cutAfter: 10_000 }));
    await expect(get(file, { retries: 1 })).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(
        /^Could not download http:\/\/127\.0\.0\.1:\d+\/small\.safetensors: .*; after 2 tries, at byte 20000$/,
      ),
    });
    expect(await contents(folder)).toEqual(KEPT);
    good = true;
    const seen: number[] = [];
    await expectDone(await get(file, { onProgress: ({ loaded }) => seen.push(loaded) }));
    expect(server.asked.at(-1)).toMatchObject({ range: 'bytes=20000-', ifRange: '"one"' });
    expect(seen[0]).toBeGreaterThanOrEqual(20_000);
  });

  test('kept of a version that is gone is not joined to the new one', async () => {
    const old = randomFile();
    let changed = false;
    const file = await serve((request, response) =>
      changed
        ? send(request, response, bytes, { etag: '"new"' })
        : send(request, response, old, { etag: '"old"', cutAfter: 10_000 }),
    );
    await expect(get(file, { retries: 0 })).rejects.toMatchObject({ code: 'IO' });
    changed = true;
    await expectDone(await get(file));
  });

  test('does not count where each try brings a mebibyte', async () => {
    const large = randomFile(4 * 2 ** 20);
    const file = await serve((request, response) =>
      send(request, response, large, { cutAfter: 1.2 * 2 ** 20, cutDelay: 500 }),
    );
    const path = await get({ ...file, sha256: sha256(large) }, { retries: 1 });
    expect(Buffer.compare(readFileSync(path as string), large)).toBe(0);
    expect(server.asked).toHaveLength(4);
  });

  test('counts where each try begins again', async () => {
    const large = randomFile(4 * 2 ** 20);
    const file = await serve((request, response) =>
      send(request, response, large, { ignoreRange: true, cutAfter: 1.2 * 2 ** 20 }),
    );
    await expect(get({ ...file, sha256: sha256(large) }, { retries: 2 })).rejects.toMatchObject({ code: 'IO' });
    expect(server.asked.length).toBeLessThan(6);
  });
});

describe('a server that is slow or busy', () => {
  test('and stalls is asked again for the rest', async () => {
    const file = await serve((request, response, index) =>
      send(request, response, bytes, index === 0 ? { stallAfter: 70_000 } : {}),
    );
    await expectDone(await get(file, { stallTimeout: 300 }));
    expect(server.asked[1]?.range).toBe('bytes=70000-');
  });

  test('and never answers is an error', async () => {
    const file = await serve(() => {});
    await expect(get(file, { retries: 1, stallTimeout: 100 })).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('nothing came for 100 ms; after 2 tries'),
    });
    expect(await contents(folder)).toEqual([]);
  });

  test('and only trickles is as one that stalls', async () => {
    const file = await serve((_, response) => {
      response.writeHead(200, { 'content-length': SIZE, etag: '"one"' });
      const timer = setInterval(() => response.write(bytes.subarray(0, 10)), 20);
      response.on('close', () => clearInterval(timer));
    });
    const start = performance.now();
    await expect(get(file, { retries: 0, stallTimeout: 200 })).rejects.toMatchObject({ code: 'IO' });
    expect(performance.now() - start).toBeLessThan(2_000);
  });

  test('says when to come back', async () => {
    const file = await serve((request, response, index) =>
      index === 0 ? response.writeHead(503, { 'retry-after': '1' }).end() : send(request, response, bytes),
    );
    const start = performance.now();
    await expectDone(await get(file));
    expect(performance.now() - start).toBeGreaterThan(990);
  });

  test('is left alone for longer each time, and at last for good', async () => {
    const times: number[] = [];
    const file = await serve((_, response) => {
      times.push(performance.now());
      response.writeHead(500).end();
    });
    await expect(get(file, { retries: 3, retryDelay: 100 })).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining('HTTP 500 Internal Server Error; after 4 tries'),
    });
    expect(times).toHaveLength(4);
    const pauses = times.slice(1).map((time, i) => time - (times[i] as number));
    for (const [i, pause] of pauses.entries()) expect(pause).toBeGreaterThanOrEqual(49 * 2 ** i);
  });

  test('and may ask for too long a pause', async () => {
    const file = await serve((_, response) => response.writeHead(429, { 'retry-after': '86400' }).end());
    await expect(get(file)).rejects.toMatchObject({ code: 'IO' });
    expect(server.asked).toHaveLength(1);
  });
});

describe('a wrong answer is an error at once, and leaves nothing', () => {
  async function expectRefused(answer: Answer, code: string, message: RegExp, more?: Partial<PretrainedFile>) {
    const file = await serve(answer);
    await expect(get({ ...file, ...more })).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect(server.asked).toHaveLength(1);
    expect(await contents(folder)).toEqual([]);
  }

  test('other bytes', async () => {
    const other = randomFile();
    await expectRefused(
      (request, response) => send(request, response, other),
      'CHECKSUM_MISMATCH',
      new RegExp(
        `expected a SHA-256 of ${sha256(bytes)}, got ${sha256(other)} in ${SIZE} bytes; small\\.safetensors was deleted$`,
      ),
    );
  });

  test('404, of which the query is not told', async () => {
    const file = await serve((_, response) => response.writeHead(404).end('no'));
    const error = await get(file, { baseUrl: `${server.url}/?key=secret` }).catch((cause) => cause);
    expect(error).toMatchObject({ code: 'IO', message: `${server.url}/small.safetensors: HTTP 404 Not Found` });
    expect(await contents(folder)).toEqual([]);
  });

  test('a web page, by its type', () =>
    expectRefused(
      (_, response) => response.setHeader('content-type', 'text/html; charset=utf-8').end('<p>Log in'),
      'IO',
      /expected a file of weights, got a web page/,
    ));

  test('a web page that says it is bytes', () =>
    expectRefused(
      (_, response) =>
        response.setHeader('content-type', 'application/octet-stream').end('\n<!DOCTYPE html><title>Log in</title>'),
      'IO',
      /expected a file of weights, got a web page/,
    ));

  test('another length than is published', () =>
    expectRefused(
      (request, response) => send(request, response, bytes),
      'IO',
      new RegExp(`expected ${SIZE + 1} bytes, got a file of ${SIZE}$`),
      { size: SIZE + 1 },
    ));

  test('more bytes than are published, without a length', () =>
    expectRefused(
      (_, response) => {
        response.write(bytes.subarray(0, 10));
        response.end(bytes.subarray(10));
      },
      'IO',
      /goes on after byte 1000, where it should end$/,
      { size: 1000 },
    ));

  test('fewer bytes than are published, without a length', () =>
    expectRefused(
      (_, response) => {
        response.write(bytes.subarray(0, 10));
        response.end();
      },
      'IO',
      new RegExp(`expected ${SIZE} bytes, got 10$`),
      { size: SIZE },
    ));

  test('nothing at all', () =>
    expectRefused((_, response) => response.end(), 'CHECKSUM_MISMATCH', /got e3b0c44298fc1c14.* in 0 bytes/));
});

describe('a length that is a lie', () => {
  test('too long: what came is enough if it is the right file', async () => {
    const file = await serve((request, response) => {
      if (request.headers.range) return send(request, response, bytes);
      response.writeHead(200, { etag: '"one"', 'content-length': SIZE + 5000 });
      return response.write(bytes, () => setTimeout(() => response.destroy(), 30));
    });
    await expectDone(await get(file));
    expect(server.asked.map(({ range }) => range)).toEqual([undefined, `bytes=${SIZE}-`]);
  });

  test('too short: what came is not the file', async () => {
    const file = await serve((_, response) => {
      response.writeHead(200, { etag: '"one"', 'content-length': 5000 });
      response.end(bytes.subarray(0, 5000));
    });
    await expect(get(file)).rejects.toMatchObject({ code: 'CHECKSUM_MISMATCH' });
    expect(await contents(folder)).toEqual([]);
  });
});

describe('a server that is not there', () => {
  test('is an error that names the URL', async () => {
    const file = await serve(() => {});
    await server.close();
    await expect(get(file, { retries: 1 })).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/^Could not download http:.*ECONNREFUSED.*; after 2 tries$/),
    });
    expect(await contents(folder)).toEqual([]);
  });
});

describe('an abort', () => {
  test('before the call asks nobody', async () => {
    const file = await serve((request, response) => send(request, response, bytes));
    await expect(get(file, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(server.asked).toEqual([]);
    expect(await contents(folder)).toEqual([]);
  });

  test('within the file keeps what came, and a later call goes on', async () => {
    const controller = new AbortController();
    const file = await serve((request, response, index) =>
      send(request, response, bytes, index === 0 ? { stallAfter: 50_000 } : {}),
    );
    const onProgress = ({ loaded }: { loaded: number }): void => {
      if (loaded > 0) setTimeout(() => controller.abort(new Error('enough')), 50);
    };
    const stopped = get(file, { signal: controller.signal, onProgress, stallTimeout: 30_000 });
    await expect(stopped).rejects.toMatchObject({ code: 'ABORTED', cause: { message: 'enough' } });
    expect(await contents(folder)).toEqual(KEPT);
    await expectDone(await get(file));
    expect(server.asked[1]?.range).toBe('bytes=50000-');
  });

  test('in a pause between two tries does not wait for its end', async () => {
    const controller = new AbortController();
    const file = await serve((_, response) => {
      response.writeHead(503).end();
      setTimeout(() => controller.abort(), 50);
    });
    const start = performance.now();
    const stopped = get(file, { signal: controller.signal, retryDelay: 60_000 });
    await expect(stopped).rejects.toMatchObject({ code: 'ABORTED' });
    expect(performance.now() - start).toBeLessThan(1_000);
  });
});

test.each([
  { retries: -1 },
  { retries: 1.5 },
  { stallTimeout: Number.NaN },
  { stallTimeout: 0 },
  { cacheDir: '' },
  { cacheDir: 5 as never },
])('%j is refused', async (options) => {
  const file = await serve((request, response) => send(request, response, bytes));
  await expect(get(file, options)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  expect(server.asked).toEqual([]);
});
