import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, rename, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { clearCache, listCache } from '../../src/hub/cache.js';
import { DirectoryStore, defaultFolder } from '../../src/hub/directory.js';
import type { LockTimes } from '../../src/hub/lock.js';
import { type NodeParts, nodeParts } from '../../src/hub/node.js';
import { type FetchOptions, fetchWeights } from '../../src/hub/weights.js';
import { stopwatch } from '../support/stopwatch.js';
import { contents, newFolder, removeFolder } from './folder.js';
import { randomFile, SIZE, send, serveWeights, sha256, type WeightServer } from './server.js';

const bytes = randomFile();
const NAME = 'small.safetensors';
const DONE = [NAME, `${NAME}.json`];
const QUICK: LockTimes = { beat: 50, stale: 400, poll: 20 };
const node = nodeParts() as NodeParts;

let folder: string;
let server: WeightServer;

beforeEach(async () => {
  folder = await newFolder();
  server = await serveWeights((request, response) => send(request, response, bytes));
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await chmod(folder, 0o755);
  await server.close();
  await removeFolder(folder);
});

function get(options: FetchOptions = {}): Promise<unknown> {
  return fetchWeights(server.file(bytes), { cacheDir: folder, lockTimes: QUICK, retryDelay: 10, ...options });
}

async function expectGot(path: unknown, asked: number): Promise<void> {
  expect(Buffer.compare(readFileSync(path as string), bytes)).toBe(0);
  expect(await contents(folder)).toEqual(DONE);
  expect(server.asked).toHaveLength(asked);
}

describe('a file that is there', () => {
  test('and was put there by hand is read once, and used without a server', async () => {
    await writeFile(join(folder, NAME), bytes);
    await server.close();
    await expectGot(await get(), 0);
    const { sha256: digest, size } = JSON.parse(await readFile(join(folder, `${NAME}.json`), 'utf8'));
    expect({ digest, size }).toEqual({ digest: sha256(bytes), size: SIZE });
  });

  test('is not read again until it changes', async () => {
    const path = join(folder, NAME);
    // A whole second, which every file system keeps.
    const time = 1_600_000_000;
    await writeFile(path, bytes);
    await utimes(path, time, time);
    await get();
    // The same length and time: only a look at the bytes would tell.
    const wrong = Buffer.alloc(SIZE);
    await writeFile(path, wrong);
    await utimes(path, time, time);
    expect(Buffer.compare(readFileSync((await get()) as string), wrong)).toBe(0);
    await utimes(path, time + 1, time + 1);
    await expectGot(await get(), 1);
  });

  test('but is another is deleted, and the right one is downloaded', async () => {
    await writeFile(join(folder, NAME), bytes.subarray(0, 1000));
    await expectGot(await get(), 1);
  });

  test('but is another is named, if the right one cannot be had', async () => {
    await writeFile(join(folder, NAME), 'not it');
    await server.close();
    await expect(get({ retries: 0 })).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringContaining(`there was '${join(folder, NAME)}', which was not the published file`),
    });
    expect(await contents(folder)).toEqual([]);
  });

  test('is used where nothing may be written', async () => {
    await writeFile(join(folder, NAME), bytes);
    // For root, whom permissions do not stop, the file system itself refuses.
    const readOnly: NodeParts = {
      ...node,
      fs: { ...node.fs, writeFile: refuse('EROFS'), mkdir: refuse('EROFS'), rename: refuse('EROFS') },
    };
    const store = new DirectoryStore(readOnly, folder);
    expect(await store.get(server.file(bytes), fail, {})).toBe(join(folder, NAME));
  });

  test.each(['a link', 'a dangling link', 'a pipe'])(
    'and is %s is replaced, and never followed or waited for',
    async (kind) => {
      const elsewhere = join(await newFolder(), 'elsewhere');
      await writeFile(elsewhere, 'precious');
      if (kind === 'a pipe') execFileSync('mkfifo', [join(folder, NAME)]);
      else await symlink(kind === 'a link' ? elsewhere : '/nonexistent/x', join(folder, NAME));
      await expectGot(await get(), 1);
      expect(await readFile(elsewhere, 'utf8')).toBe('precious');
    },
  );

  test.each(['.lock', '.resume', '.json'])('beside a link or pipe as %s', async (suffix) => {
    const elsewhere = join(await newFolder(), 'elsewhere');
    await writeFile(elsewhere, 'precious');
    await symlink(elsewhere, join(folder, NAME + suffix));
    await expectGot(await get(), 1);
    await rm(join(folder, NAME));
    await rm(join(folder, NAME + suffix), { force: true });
    execFileSync('mkfifo', [join(folder, NAME + suffix)]);
    await expectGot(await get(), 2);
    expect(await readFile(elsewhere, 'utf8')).toBe('precious');
  });

  test('a kept part that is a link is not written through', async () => {
    const victim = join(await newFolder(), 'victim');
    await writeFile(victim, 'precious');
    await writeFile(join(folder, `${NAME}.resume`), JSON.stringify({ token: 'aaaaaaaa', origin: { etag: '"one"' } }));
    await symlink(victim, join(folder, `${NAME}.aaaaaaaa.partial`));
    await expectGot(await get(), 1);
    expect(await readFile(victim, 'utf8')).toBe('precious');
  });

  test('and is a folder is an error', async () => {
    await mkdir(join(folder, NAME));
    await expect(get()).rejects.toMatchObject({ code: 'IO', message: expect.stringContaining(NAME) });
  });
});

describe('a folder that cannot be written', () => {
  test.each(['EACCES', 'EROFS', 'EPERM'])('%s', async (code) => {
    const store = new DirectoryStore({ ...node, fs: { ...node.fs, writeFile: refuse(code) } }, folder);
    await expect(store.get(server.file(bytes), fail, {})).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(new RegExp(`^Could not write '.*': ${code}.*; give another folder by cacheDir$`)),
    });
    expect(await contents(folder)).toEqual([]);
  });

  test('as a file has its name', async () => {
    await writeFile(join(folder, 'file'), '');
    await expect(get({ cacheDir: join(folder, 'file', 'cache') })).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/^Could not make the cache '.*': E\w+.*/),
    });
    expect(server.asked).toHaveLength(0);
  });

  test('is made with those above it', async () => {
    const cacheDir = join(folder, 'a', 'b');
    expect(await get({ cacheDir })).toBe(join(cacheDir, NAME));
  });
});

describe('a full disk', () => {
  test('leaves nothing, and asks no server again', async () => {
    let room = 100_000;
    const fs = limited((length) => {
      room -= length;
      return room >= 0;
    });
    const { download } = await import('../../src/hub/download.js');
    const store = new DirectoryStore({ ...node, fs }, folder);
    const file = server.file(bytes);
    const got = store.get(file, (sink) => download(file, new URL(file.url), sink), {});
    await expect(got).rejects.toMatchObject({
      code: 'IO',
      message: expect.stringMatching(/^Could not write '.*\.partial': ENOSPC.*; free room there, or give another/),
    });
    expect(await contents(folder)).toEqual([]);
    expect(server.asked).toHaveLength(1);
  });
});

/** The file system, where a write fails once `allow` says no. */
function limited(allow: (length: number) => boolean): NodeParts['fs'] {
  const open: typeof node.fs.open = async (...args) => {
    const handle = await node.fs.open(...args);
    const write = handle.write.bind(handle) as (...all: unknown[]) => unknown;
    return new Proxy(handle, {
      get(target, key) {
        if (key === 'write')
          return (...all: [Uint8Array, number, number]) => (allow(all[2]) ? write(...all) : refuse('ENOSPC')());
        const value = Reflect.get(target, key);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  };
  return { ...node.fs, open };
}

function refuse(code: string): () => Promise<never> {
  return () => Promise.reject(Object.assign(new Error(`${code}: refused by the test`), { code }));
}

function fail(): Promise<void> {
  return Promise.reject(new Error('nothing should be downloaded'));
}

describe('two calls at once', () => {
  test('of one process download once', async () => {
    const paths = await Promise.all([get(), get(), get()]);
    expect(new Set(paths).size).toBe(1);
    await expectGot(paths[0], 1);
  });

  test('of which the first fails: the second downloads', async () => {
    await server.close();
    const other = randomFile();
    server = await serveWeights((request, response, index) => send(request, response, index === 0 ? other : bytes));
    const [first, second] = await Promise.allSettled([get(), get()]);
    const [good, bad] = first.status === 'fulfilled' ? [first, second] : [second, first];
    expect(bad).toMatchObject({ reason: { code: 'CHECKSUM_MISMATCH' } });
    await expectGot((good as PromiseFulfilledResult<unknown>).value, 2);
  });
});

describe('the lock of another process', () => {
  const lock = (): string => join(folder, `${NAME}.lock`);

  async function writeLock(pid: number, host = node.os.hostname()): Promise<void> {
    await writeFile(lock(), JSON.stringify({ token: 'abcdefgh', pid, host }));
  }

  test('is waited for as long as it lives', async () => {
    await writeLock(process.pid);
    const beat = setInterval(() => void utimes(lock(), new Date(), new Date()).catch(() => {}), QUICK.beat);
    const waiting = get();
    await new Promise((resolve) => setTimeout(resolve, 3 * QUICK.stale));
    expect(server.asked).toHaveLength(0);
    clearInterval(beat);
    await expectGot(await waiting, 1);
  });

  test('is not waited for longer than the signal says', async () => {
    await writeLock(process.pid);
    const stopped = get({ signal: AbortSignal.timeout(50), lockTimes: { ...QUICK, stale: 60_000 } });
    await expect(stopped).rejects.toMatchObject({ code: 'ABORTED' });
    expect(await contents(folder)).toEqual([`${NAME}.lock`]);
  });

  test.each([
    ['is empty', ''],
    ['is not a lock', '{"token":"../../x","pid":-1}'],
  ])('that %s is passed over in the end', async (_, text) => {
    await writeFile(lock(), text);
    await expectGot(await get(), 1);
  });

  async function leavePartial(): Promise<void> {
    await writeFile(join(folder, `${NAME}.abcdefgh.partial`), bytes.subarray(0, 60_000));
    const meta = { token: 'abcdefgh', origin: { etag: '"one"', total: SIZE } };
    await writeFile(join(folder, `${NAME}.abcdefgh.meta`), JSON.stringify(meta));
  }

  test('that was killed leaves its bytes to the next', async () => {
    await writeLock(2 ** 22 + 1);
    await leavePartial();
    await expectGot(await get(), 1);
    expect(server.asked[0]).toMatchObject({ range: 'bytes=60000-', ifRange: '"one"' });
  });

  test('that has ended is seen at the first look', async () => {
    await writeLock(2 ** 22 + 1);
    const elapsed = stopwatch();
    await expectGot(await get({ lockTimes: { beat: 50, stale: 60_000, poll: 60_000 } }), 1);
    expect(elapsed()).toBeLessThan(5000);
  });

  test('that may only be asleep keeps its bytes, and may go on writing them', async () => {
    await writeLock(process.pid);
    await leavePartial();
    const path = await get();
    expect(Buffer.compare(readFileSync(path as string), bytes)).toBe(0);
    expect(server.asked[0]?.range).toBeUndefined();
    expect(await contents(folder)).toEqual([...DONE, `${NAME}.TOKEN.meta`, `${NAME}.TOKEN.partial`].sort());
  });

  test('of another machine is not one of a process here', async () => {
    await writeLock(2 ** 22 + 1, 'elsewhere');
    await leavePartial();
    await get();
    expect(server.asked[0]?.range).toBeUndefined();
  });
});

describe('what was kept of a cut download', () => {
  test.each([
    ['no JSON', '{'],
    ['a token that leads elsewhere', JSON.stringify({ token: '../../../x', origin: {} })],
    ['no origin', JSON.stringify({ token: 'abcdefgh' })],
    ['an origin that would be two headers', JSON.stringify({ token: 'abcdefgh', origin: { etag: '"a"\r\nx: y' } })],
    ['no bytes', JSON.stringify({ token: 'missing0', origin: { etag: '"one"' } })],
  ])('with %s in its note is not used', async (_, text) => {
    await writeFile(join(folder, `${NAME}.abcdefgh.partial`), bytes.subarray(0, 60_000));
    await writeFile(join(folder, `${NAME}.resume`), text);
    expect(Buffer.compare(readFileSync((await get()) as string), bytes)).toBe(0);
    expect(server.asked.map(({ range }) => range)).toEqual([undefined]);
  });

  test('and spoiled since is found out, and downloaded from its start', async () => {
    await writeFile(join(folder, `${NAME}.abcdefgh.partial`), Buffer.alloc(60_000));
    const note = { token: 'abcdefgh', origin: { etag: '"one"', total: SIZE } };
    await writeFile(join(folder, `${NAME}.resume`), JSON.stringify(note));
    // Once more from the first byte, within the same call.
    await expectGot(await get(), 2);
    expect(server.asked.map(({ range }) => range)).toEqual(['bytes=60000-', undefined]);
  });

  test('and whole already is only checked', async () => {
    await writeFile(join(folder, `${NAME}.abcdefgh.partial`), bytes);
    const note = { token: 'abcdefgh', origin: { etag: '"one"', total: SIZE } };
    await writeFile(join(folder, `${NAME}.resume`), JSON.stringify(note));
    await expectGot(await get(), 1);
    expect(server.asked[0]?.range).toBe(`bytes=${SIZE}-`);
  });
});

describe('listCache and clearCache', () => {
  test('know the cache’s files, and leave all others', async () => {
    await get();
    await writeFile(join(folder, `other.safetensors.abcdefgh.partial`), 'part');
    await writeFile(join(folder, `other.safetensors.abcdefgh.meta`), '{}');
    await writeFile(join(folder, 'vgg19-dcbb9e9d.pth'), 'official');
    const others = ['mine.safetensors', 'mine.safetensors.json', 'mine.safetensors.index.json', 'notes.txt', 'x.pth'];
    for (const name of others) await writeFile(join(folder, name), '{"mine":true}');
    const files = [
      { name: 'other.safetensors.abcdefgh.partial', size: 4, complete: false },
      { name: NAME, size: SIZE, complete: true },
      { name: 'vgg19-dcbb9e9d.pth', size: 8, complete: true },
    ];
    expect(await listCache({ cacheDir: folder })).toEqual(files);
    expect(await clearCache({ cacheDir: folder })).toEqual(files);
    expect(await readdir(folder)).toEqual(others.sort());
    expect(await listCache({ cacheDir: folder })).toEqual([]);
  });

  test('leave what is being downloaded', async () => {
    await server.close();
    server = await serveWeights((request, response) => send(request, response, bytes, { stallAfter: 1000 }));
    const controller = new AbortController();
    const onProgress = (): void => {};
    const stopped = get({ signal: controller.signal, onProgress }).catch((error) => error);
    await expect.poll(() => listCache({ cacheDir: folder })).toMatchObject([{ size: 1000, complete: false }]);
    expect(await clearCache({ cacheDir: folder })).toEqual([]);
    controller.abort();
    expect(await stopped).toMatchObject({ code: 'ABORTED' });
    expect(await clearCache({ cacheDir: folder })).toMatchObject([{ size: 1000, complete: false }]);
    expect(await readdir(folder)).toEqual([]);
  });

  test('of a folder that is not there are empty', async () => {
    const cacheDir = join(folder, 'none');
    expect(await listCache({ cacheDir })).toEqual([]);
    expect(await clearCache({ cacheDir })).toEqual([]);
    expect(existsSync(cacheDir)).toBe(false);
  });

  test('of what is no folder are errors', async () => {
    await writeFile(join(folder, 'file'), '');
    await expect(listCache({ cacheDir: join(folder, 'file') })).rejects.toMatchObject({ code: 'IO' });
  });
});

describe('the default folder', () => {
  const parts = { ...node };

  test('is the environment’s, or the system’s for caches', () => {
    vi.stubEnv('VGGNET_CACHE', '/somewhere');
    expect(defaultFolder(parts)).toBe('/somewhere');
    vi.stubEnv('VGGNET_CACHE', '');
    vi.stubEnv('XDG_CACHE_HOME', '/xdg');
    expect(defaultFolder(parts)).toBe('/xdg/vggnet');
    vi.stubEnv('XDG_CACHE_HOME', 'relative');
    expect(defaultFolder(parts)).toBe(join(homedir(), '.cache', 'vggnet'));
  });

  test.each([
    ['darwin', undefined, join(homedir(), 'Library', 'Caches', 'vggnet')],
    ['win32', '/local', join('/local', 'vggnet', 'Cache')],
    ['win32', '', join(homedir(), 'AppData', 'Local', 'vggnet', 'Cache')],
  ])('on %s, with LOCALAPPDATA %j', (platform, local, expected) => {
    vi.stubEnv('VGGNET_CACHE', '');
    vi.stubEnv('LOCALAPPDATA', local);
    const original = Object.getOwnPropertyDescriptor(process, 'platform') as PropertyDescriptor;
    Object.defineProperty(process, 'platform', { ...original, value: platform });
    try {
      expect(defaultFolder(parts)).toBe(expected);
    } finally {
      Object.defineProperty(process, 'platform', original);
    }
  });

  test('is used if none is given', async () => {
    vi.stubEnv('VGGNET_CACHE', join(folder, 'cache'));
    expect(await fetchWeights(server.file(bytes))).toBe(join(folder, 'cache', NAME));
    await rename(join(folder, 'cache', NAME), join(folder, 'cache', `${NAME}.old`));
  });
});
