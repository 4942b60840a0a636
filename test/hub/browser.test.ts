import { readFileSync } from 'node:fs';
import type { Browser, Page } from 'puppeteer-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { PretrainedFile } from '../../src/hub/catalog.js';
import { type BrowserName, openBrowser } from '../runtimes/browsers.js';
import { bundleHub } from './bundle.js';
import { removeFolder } from './folder.js';
import { type Answer, randomFile, SIZE, send, serveWeights, sha256, type WeightServer } from './server.js';

/* Cache Storage as browsers have it. The page is of one server, and the weights of another, as in life. */

const bytes = randomFile();
const CORS = { 'access-control-allow-origin': '*', 'access-control-expose-headers': 'etag, content-range' };

const PAGE = `<!DOCTYPE html><title>Test</title>
  <script type="module">import * as hub from '/hub.mjs'; Object.assign(globalThis, { hub });</script>`;

/** What the page's script leaves there for the functions that run in the page. */
declare const hub: typeof import('../../src/hub/weights.js') & typeof import('../../src/hub/cache.js');

let browser: Browser;
let page: Page;
let site: WeightServer;
let server: WeightServer;

async function serve(answer: Answer): Promise<PretrainedFile> {
  server = await serveWeights((request, response, index) => {
    for (const [name, value] of Object.entries(CORS)) response.setHeader(name, value);
    return answer(request, response, index);
  });
  return server.file(bytes);
}

/** Gets files in the page, at once: the digest of each one's bytes, or the error's code and message. */
function get(files: readonly PretrainedFile[], options: object = {}): Promise<string[]> {
  return page.evaluate(
    async (all, given) => {
      const one = async (file: PretrainedFile): Promise<string> => {
        const response = (await hub.fetchWeights(file, { retryDelay: 10, ...given })) as Response;
        const digest = await crypto.subtle.digest('SHA-256', await response.arrayBuffer());
        return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
      };
      return Promise.all(all.map((file) => one(file).catch((error) => `${error.code} ${error.message}`)));
    },
    files as PretrainedFile[],
    options,
  );
}

function entries(): Promise<unknown> {
  return page.evaluate(() => hub.listCache());
}

/** All that is in Cache Storage, whosever it is. */
function stored(): Promise<string[]> {
  return page.evaluate(async () => {
    const names = await caches.keys();
    const keys = await Promise.all(names.map(async (name) => (await caches.open(name)).keys()));
    return keys.flat().map((request) => request.url);
  });
}

const ENTRY = { name: 'small.safetensors', size: SIZE, complete: true };

describe.each<BrowserName>(['chromium', 'firefox'])('%s', (name) => {
  beforeAll(async () => {
    const bundle = await bundleHub();
    const code = readFileSync(bundle.file);
    await removeFolder(bundle.folder);
    site = await serveWeights((request, response) => {
      const script = request.url === '/hub.mjs';
      response.setHeader('content-type', script ? 'text/javascript' : 'text/html');
      response.end(script ? code : PAGE);
    });
    browser = await openBrowser(name);
  });
  afterAll(async () => {
    await browser?.close();
    await site?.close();
  });
  beforeEach(async () => {
    const context = await browser.createBrowserContext();
    page = await context.newPage();
    await page.goto(site.url);
  });
  afterEach(async () => {
    await page.browserContext().close();
    await server.close();
  });

  test('a file is downloaded once, kept beyond the page, listed and deleted', async () => {
    const file = await serve((request, response) => send(request, response, bytes));
    expect(await get([file])).toEqual([sha256(bytes)]);
    await page.reload();
    await server.close();
    expect(await get([file])).toEqual([sha256(bytes)]);
    expect(server.asked).toHaveLength(1);
    expect(await entries()).toEqual([ENTRY]);
    await page.evaluate(async () => {
      await (await caches.open('vggnet')).put('/another', new Response('not of this library'));
    });
    expect(await page.evaluate(() => hub.clearCache())).toEqual([ENTRY]);
    expect(await stored()).toEqual([`${site.url}/another`]);
  });

  test('cacheDir names the cache', async () => {
    const file = await serve((request, response) => send(request, response, bytes));
    expect(await get([file], { cacheDir: 'mine' })).toEqual([sha256(bytes)]);
    expect(await page.evaluate(() => caches.keys())).toEqual(['mine']);
  });

  test('two calls at once download once', async () => {
    const file = await serve((request, response) => send(request, response, bytes));
    expect(await get([file, file])).toEqual([sha256(bytes), sha256(bytes)]);
    expect(server.asked).toHaveLength(1);
  });

  test('a cut is gone on from, without a header that the other server would have to allow', async () => {
    const file = await serve((request, response, index) =>
      send(request, response, bytes, index < 2 ? { cutAfter: 60_000, cutDelay: 500 } : {}),
    );
    expect(await get([file])).toEqual([sha256(bytes)]);
    expect(server.asked.map(({ range, ifRange }) => [range, ifRange])).toEqual([
      [undefined, undefined],
      ['bytes=60000-', undefined],
      ['bytes=120000-', undefined],
    ]);
  });

  test('a cut begins again if the file was changed', async () => {
    const old = randomFile();
    const file = await serve((request, response, index) =>
      index === 0
        ? send(request, response, old, { etag: '"old"', cutAfter: 60_000, cutDelay: 500 })
        : send(request, response, bytes, { etag: '"new"' }),
    );
    expect(await get([file])).toEqual([sha256(bytes)]);
    expect(server.asked.map(({ range }) => range)).toEqual([undefined, 'bytes=60000-', undefined]);
  });

  describe('nothing is left of', () => {
    async function expectRefused(answer: Answer, message: RegExp, options: object = {}): Promise<void> {
      const file = await serve(answer);
      const [got] = await get([file], { retries: 0, ...options });
      expect(got).toMatch(message);
      expect(await stored()).toEqual([]);
    }

    test('other bytes', () =>
      expectRefused((request, response) => send(request, response, randomFile()), /^CHECKSUM_MISMATCH /));

    test('a file that is cut for good', () =>
      expectRefused(
        (request, response) => send(request, response, bytes, { cutAfter: 60_000, cutDelay: 500 }),
        /^IO Could not download/,
      ));

    test('a stall', () =>
      expectRefused((request, response) => send(request, response, bytes, { stallAfter: 60_000 }), /nothing came for/, {
        stallTimeout: 300,
      }));

    test('404', () => expectRefused((_, response) => response.writeHead(404).end(), /^IO .*: HTTP 404 Not Found$/));
  });

  test('a page without Cache Storage is told so', async () => {
    const file = await serve((request, response) => send(request, response, bytes));
    // As on a page of http: that is not localhost.
    await page.evaluate(
      () => Reflect.deleteProperty(Window.prototype, 'caches') && Reflect.deleteProperty(window, 'caches'),
    );
    expect((await get([file]))[0]).toMatch(/^IO Nowhere to keep weights: .*https: or localhost/);
  });

  // Firefox's driver can set no quota.
  if (name === 'firefox') return;

  test('no room is an error', async () => {
    const file = await serve((request, response) => send(request, response, bytes));
    const session = await page.createCDPSession();
    await session.send('Storage.overrideQuotaForOrigin', { origin: site.url, quotaSize: 100_000 });
    const [got] = await get([file]);
    expect(got).toMatch(/^IO Could not store 'small\.safetensors': there is no room in the browser's cache 'vggnet'/);
    expect(await stored()).toEqual([]);
  });
});
