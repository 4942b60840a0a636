import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { newFolder, removeFolder } from '../hub/folder.js';
import { vggnet } from './run.js';

let folder: string;

beforeEach(async () => {
  folder = join(await newFolder(), 'cache');
  await mkdir(folder);
  await writeFile(join(folder, 'vgg16-397923af.pth'), Buffer.alloc(3 * 2 ** 20));
  await writeFile(join(folder, 'vgg19-dcbb9e9d.pth.abcdefgh.partial'), Buffer.alloc(1024));
  await writeFile(join(folder, 'vgg19-dcbb9e9d.pth.resume'), '{}');
  await writeFile(join(folder, 'mine.pth'), 'mine');
});
afterEach(async () => {
  vi.unstubAllEnvs();
  await removeFolder(join(folder, '..'));
});

test('cache list shows files, cut downloads, and the sum', async () => {
  const { code, stdout, stderr } = await vggnet(['cache', 'list', '--cache-dir', folder]);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(stdout.split('\n')).toEqual([
    'file                                                    size',
    'vgg16-397923af.pth                                   3.0 MiB',
    'vgg19-dcbb9e9d.pth.abcdefgh.partial  (not complete)  1.0 KiB',
    `${folder} holds 2 files, 3.0 MiB`,
    '',
  ]);
});

test('cache list --json, of the folder in the environment', async () => {
  vi.stubEnv('VGGNET_CACHE', folder);
  expect(JSON.parse((await vggnet(['cache', 'list', '--json'])).stdout)).toEqual({
    cache: folder,
    files: [
      { name: 'vgg16-397923af.pth', size: 3 * 2 ** 20, complete: true },
      { name: 'vgg19-dcbb9e9d.pth.abcdefgh.partial', size: 1024, complete: false },
    ],
    bytes: 3 * 2 ** 20 + 1024,
  });
});

test('cache clear deletes what list shows, and no more', async () => {
  const clear = ['cache', 'clear', '--cache-dir', folder];
  expect((await vggnet(clear)).stdout).toMatch(/ no longer holds 2 files, 3\.0 MiB\n$/);
  expect(await readdir(folder)).toEqual(['mine.pth']);
  expect((await vggnet(clear)).stdout).toBe(`${folder} no longer holds 0 files, 0.0 MiB\n`);
});

test('cache of what is no folder fails', async () => {
  const { code, stdout, stderr } = await vggnet(['cache', 'list', '--cache-dir', join(folder, 'mine.pth')]);
  expect({ code, stdout }).toEqual({ code: 1, stdout: '' });
  expect(stderr).toMatch(/^vggnet: Could not read the cache '.*mine\.pth': ENOTDIR.* \(IO\)\n$/);
});

test('cache alone, or with --help, is help', async () => {
  const [alone, asked] = await Promise.all([vggnet(['cache']), vggnet(['cache', '--help'])]);
  expect(alone).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('Usage: vggnet cache') });
  expect(asked).toMatchObject({ code: 0, stdout: expect.stringContaining('Usage: vggnet cache'), stderr: '' });
});

test.each([
  [['cache', 'lst'], "Unknown command 'lst'"],
  [['cache', 'list', 'vgg16'], 'Too many arguments'],
  [['cache', 'clear', '--dir', 'x'], "Unknown option '--dir'"],
])('%j is wrong use', async (args, message) => {
  const { code, stdout, stderr } = await vggnet(args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toContain(message);
});
