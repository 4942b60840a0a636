import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import type { Browser, ElementHandle, Page } from 'puppeteer-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { VGGNet } from '../../src/model.js';
import { type BrowserName, openBrowser, openPage } from '../runtimes/browsers.js';
import { type Server, serve } from '../runtimes/server.js';
import { ROOT } from '../support/project.js';

/* examples/page as it is put on a file server, used by a script that draws, clicks and reads. */

let folder: string;
let site: string;

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vggnet-page-'));
  site = join(folder, 'site');
  await promisify(execFile)(process.execPath, [join(ROOT, 'examples/page/build.mjs'), site]);
});
afterAll(() => rm(folder, { recursive: true }));

/** Waits until a condition holds in the page. */
const until = (page: Page, condition: string): Promise<unknown> => page.waitForFunction(condition, { timeout: 20_000 });
const text = (page: Page, selector: string): Promise<string> =>
  page.$eval(selector, (element) => element.textContent ?? '');
const firstIs = (label: string): string => `document.querySelector('#top li span')?.textContent === '${label}'`;

/** Draws lines over the pad; its corners are (0, 0) and (1, 1). */
async function draw(page: Page, strokes: readonly (readonly [number, number])[][]): Promise<void> {
  const box = await (await page.$('#pad'))?.boundingBox();
  if (!box) throw new Error('There is no pad');
  for (const [first, ...rest] of strokes) {
    const to = ([x, y]: readonly [number, number]) => [box.x + x * box.width, box.y + y * box.height] as const;
    await page.mouse.move(...to(first as [number, number]));
    await page.mouse.down();
    for (const point of rest) await page.mouse.move(...to(point), { steps: 4 });
    await page.mouse.up();
  }
}

const T = [
  [
    [0.2, 0.2],
    [0.8, 0.2],
  ],
  [
    [0.5, 0.2],
    [0.5, 0.85],
  ],
] as const;

async function choose(page: Page, selector: string, file: string): Promise<void> {
  const input = (await page.$(selector)) as ElementHandle<HTMLInputElement>;
  await input.uploadFile(file);
}

describe.each<BrowserName>(['chromium', 'firefox'])('the page in %s', (name) => {
  let browser: Browser;
  let server: Server;
  let page: Page;
  let problems: readonly string[];

  beforeAll(async () => {
    server = await serve({ folders: { '/': site } });
    browser = await openBrowser(name);
    ({ page, problems } = await openPage(browser, `${server.origin}/`));
    await page.setViewport({ width: 1200, height: 1000 });
    await until(page, `document.querySelector('#model').textContent !== ''`);
  }, 60_000);
  afterAll(async () => {
    await browser.close();
    await server.close();
  });

  test('reads what one draws, and shows times and feature maps', async () => {
    expect(await text(page, '#model')).toMatch(/^glyphs: \d\.\d million parameters, 36 classes$/);
    await draw(page, T as never);
    await until(page, firstIs('T'));
    await until(page, `document.querySelector('#maps').width > 300`);
    expect(await page.$$eval('#top li', (items) => items.length)).toBe(5);
    expect(await text(page, '#top li')).toMatch(/^T\d+\.\d%$/);
    expect(await page.$$eval('#times li', (items) => items.length)).toBeGreaterThan(8);
    expect(await text(page, '#devices .device')).toMatch(/^[\d.]+ msWebAssembly/);
    expect(await text(page, '#shape')).toMatch(/^1 × \d+ × \d+ × \d+$/);
    await page.click('#clear');
    await until(page, `document.querySelectorAll('#top li').length === 0`);
  }, 40_000);

  test('is used by the keyboard', async () => {
    await page.focus('#pad');
    const press = async (key: string, times: number): Promise<void> => {
      for (let i = 0; i < times; i++) await page.keyboard.press(key as never);
    };
    await press('ArrowUp', 16);
    await page.keyboard.down(' ');
    await press('ArrowDown', 32);
    await page.keyboard.up(' ');
    await until(page, `/^[1IL]/.test(document.querySelector('#top li')?.textContent)`);
    await page.keyboard.press('Backspace');
    await until(page, `document.querySelectorAll('#top li').length === 0`);
    // Everything else is reached by Tab.
    const reached = new Set<string>();
    for (let i = 0; i < 12; i++) {
      await page.keyboard.press('Tab');
      reached.add(await page.evaluate(() => document.activeElement?.id || document.activeElement?.textContent || ''));
    }
    for (const id of ['picture', 'clear', 'compare', 'weights', 'embedded', 'name', 'layer'])
      expect(reached).toContain(id);
  }, 40_000);

  test('reads a picture from a file, and says what is none', async () => {
    await choose(page, '#picture', join(ROOT, 'examples/images/glyph-W.png'));
    await until(page, firstIs('W'));
    await choose(page, '#picture', join(ROOT, 'package.json'));
    await until(page, `document.querySelector('#error').textContent.includes('not a picture')`);
  }, 40_000);

  test('shows another layer', async () => {
    await page.select('#layer', 'pool1');
    await until(page, `document.querySelector('#shape').textContent.endsWith('× 16 × 16')`);
  }, 40_000);

  test('runs beside WebGPU', async () => {
    await page.click('#compare');
    await until(page, `/ ms/.test(document.querySelector('[data-device=webgpu] b')?.textContent)`);
    expect(await text(page, '#top li')).toMatch(/^W/);
    await page.click('#compare');
    await until(page, `document.querySelectorAll('.device').length === 1`);
  }, 60_000);

  test('loads weights from a file, and keeps the network when they are none', async () => {
    const own = await VGGNet.create([8, 'M', 8, 'M'], {
      inChannels: 1,
      numClasses: 3,
      hiddenFeatures: 8,
      poolSize: 1,
      labels: ['this', 'that', 'other'],
      device: 'reference',
    });
    const file = join(folder, 'own.safetensors');
    await writeFile(file, Buffer.from(await new Response(own.save()).arrayBuffer()));
    await choose(page, '#weights', file);
    await until(page, `document.querySelector('#model').textContent.includes('3 classes')`);
    await until(page, `document.querySelectorAll('#top li').length === 3`);
    await choose(page, '#weights', join(ROOT, 'package.json'));
    await until(page, `document.querySelector('#error').textContent.includes('(INVALID_WEIGHTS_FILE)')`);
    expect(await text(page, '#model')).toContain('3 classes');
    await page.click('#embedded');
    await until(page, `document.querySelector('#model').textContent.includes('36 classes')`);
  }, 40_000);

  test('fits a phone', async () => {
    await page.setViewport({ width: 360, height: 740 });
    expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(360);
    await page.setViewport({ width: 1200, height: 1000 });
  });

  test('opens without a network after the first visit, on shared memory', async () => {
    await until(page, `caches.open('vggnet-page').then(async (cache) => (await cache.keys()).length > 15)`);
    await server.close();
    await page.reload();
    await until(page, `document.querySelector('#model').textContent.includes('36 classes')`);
    expect(await page.evaluate(() => crossOriginIsolated)).toBe(true);
    await draw(page, T as never);
    await until(page, firstIs('T'));
    // Before the last step nothing failed unseen.
    expect(problems.filter((problem) => !/ERR_CONNECTION_REFUSED|NetworkError/.test(problem))).toEqual([]);
  }, 60_000);
});
