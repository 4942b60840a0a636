import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { nameOf } from '../../bench/page/measure.js';
import { BrowserRuntime } from '../../bench/src/runtimes/browser.js';
import { largestPeak, processTree } from '../../bench/src/runtimes/memory.js';
import { type Served, serve, servedPath, urlPath } from '../../bench/src/runtimes/serve.js';

describe('the server for browsers', () => {
  let folder: string;
  let server: Served;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'vggnet-serve-'));
    mkdirSync(join(folder, 'dist/kernels'), { recursive: true });
    writeFileSync(join(folder, 'dist/index.js'), 'export const a = 1;\n');
    writeFileSync(join(folder, 'dist/kernels/simd.wasm'), new Uint8Array([0, 97, 115, 109]));
    writeFileSync(join(folder, 'secret.txt'), 'not for pages');
    server = await serve(folder);
  });

  afterAll(async () => {
    await server.close();
    rmSync(folder, { recursive: true });
  });

  test('sends files with their types and the headers of cross-origin isolation', async () => {
    const response = await fetch(`${server.origin}/dist/index.js`);
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toContain('text/javascript');
    expect(response.headers.get('cross-origin-opener-policy')).toBe('same-origin');
    expect(response.headers.get('cross-origin-embedder-policy')).toBe('require-corp');
    expect(await response.text()).toBe('export const a = 1;\n');
    const wasm = await fetch(server.origin + urlPath(folder, join(folder, 'dist/kernels/simd.wasm')));
    expect(wasm.headers.get('content-type')).toBe('application/wasm');
    expect([...new Uint8Array(await wasm.arrayBuffer())]).toEqual([0, 97, 115, 109]);
  });

  test('sends nothing but what browsers need', async () => {
    // fetch would tidy these paths up by itself.
    for (const path of [
      '/secret.txt',
      '/dist/../secret.txt',
      '/dist/%2e%2e/secret.txt',
      '/dist/..%2fsecret.txt',
      '/',
    ]) {
      expect(await statusOf(server.origin, path), path).toBe(404);
    }
    expect(await statusOf(server.origin, '/dist/missing.js')).toBe(404);
    expect(await statusOf(server.origin, '/dist/%E0%A4%A')).toBe(404);
    expect((await fetch(`${server.origin}/dist/index.js`, { method: 'POST' })).status).toBe(405);
  });

  test('has no path outside the folders, on any system', () => {
    expect(servedPath('/r', '/bench/page/')).toBe(join('/r', 'bench/page/index.html'));
    expect(servedPath('/r', '/dist/..%5c..%5csecret')).toBeUndefined();
    expect(servedPath('/r', '/distant/a.js')).toBeUndefined();
    expect(() => urlPath('/r', '/elsewhere/a.js')).toThrow('/elsewhere/a.js');
  });
});

function statusOf(origin: string, path: string): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(origin);
    request({ hostname, port, path }, (response) => {
      response.resume();
      resolve(response.statusCode);
    })
      .on('error', reject)
      .end();
  });
}

describe('a browser', () => {
  const browser = (commands: string[], variable = 'VGGNET_TEST_NO_BROWSER'): BrowserRuntime =>
    new BrowserRuntime({
      name: 'testzilla',
      commands,
      variable,
      debian: 'testzilla-esr',
      benchFolder: 'bench',
      launch: () => Promise.reject(new Error('not to be launched')),
    });

  test('that is missing is unavailable, and says what was looked for', async () => {
    const missing = browser(['no-such-browser']);
    await expect(missing.find()).rejects.toMatchObject({ name: 'Unavailable' });
    await expect(missing.find()).rejects.toThrow(
      /no no-such-browser in PATH.*VGGNET_TEST_NO_BROWSER.*apt-get install testzilla-esr/,
    );
  });

  test('can be named by an environment variable, and is asked for its version', async () => {
    process.env.VGGNET_TEST_BROWSER = process.execPath;
    try {
      const found = await browser([], 'VGGNET_TEST_BROWSER').find();
      expect(found).toEqual({ name: 'testzilla', version: process.versions.node });
      process.env.VGGNET_TEST_BROWSER = '/nowhere/browser';
      await expect(browser(['node'], 'VGGNET_TEST_BROWSER').find()).rejects.toThrow('/nowhere/browser');
    } finally {
      delete process.env.VGGNET_TEST_BROWSER;
    }
  });
});

test.runIf(process.platform === 'linux')('memory is of the largest process of a tree', () => {
  const parent = process.ppid;
  expect(processTree(parent)).toContain(process.pid);
  const own = largestPeak([process.pid]) as number;
  expect(own).toBeGreaterThan(2 ** 24);
  expect(largestPeak([process.pid, 2 ** 30])).toBeGreaterThanOrEqual(own);
  expect(largestPeak([2 ** 30])).toBeUndefined();
});

test("a page's variants have the names of the suite's rows", () => {
  expect(nameOf({ backend: 'wasm', build: 'relaxed-simd', threads: 2 })).toBe('wasm-relaxed-simd, t2');
  expect(nameOf({ backend: 'webgpu', threads: 1 })).toBe('webgpu');
});
