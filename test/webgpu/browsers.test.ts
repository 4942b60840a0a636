import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type BrowserName, openBrowser, openPage } from '../runtimes/browsers.js';
import type { Report } from './elsewhere/browser.js';

/* WebGPU in pages: Chromium on SwiftShader by Dawn, Firefox on Mesa's software driver by wgpu. */

let server: Server;
let url: string;

beforeAll(async () => {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL('elsewhere/browser.ts', import.meta.url))],
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    loader: { '.wgsl': 'text' },
    external: ['node:*'],
    logLevel: 'error',
  });
  const kernels = new URL('../../dist/', import.meta.url);
  const { readFile } = await import('node:fs/promises');
  server = createServer(async (request, response) => {
    const path = new URL(request.url ?? '/', 'http://localhost').pathname;
    if (path === '/') {
      response
        .setHeader('content-type', 'text/html')
        .end('<!doctype html><script type="module" src="tests.js"></script>');
    } else if (path === '/tests.js') {
      response.setHeader('content-type', 'text/javascript').end(outputFiles[0]?.text);
    } else if (path.endsWith('.wasm')) {
      response.setHeader('content-type', 'application/wasm').end(await readFile(new URL(`.${path}`, kernels)));
    } else {
      response.writeHead(204).end();
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://localhost:${(server.address() as AddressInfo).port}/`;
});
afterAll(() => server?.close());

describe.each([
  ['chromium', /swiftshader/i],
  ['firefox', /./],
] as const satisfies readonly (readonly [BrowserName, RegExp])[])('in %s', (name, adapter) => {
  test('a network as on the reference, pictures, results on the GPU, and a device that is lost', {
    timeout: 240_000,
  }, async () => {
    const browser = await openBrowser(name);
    try {
      const { page, problems } = await openPage(browser, url);
      await page.waitForFunction('typeof report === "function"', { timeout: 60_000 });
      const report = (await page.evaluate('report()')) as Report;
      expect(report.device).toMatchObject({ backend: 'webgpu', build: expect.stringMatching(adapter) });
      for (const [layer, difference] of Object.entries(report.differences)) {
        expect(difference, layer).toBeLessThanOrEqual(1e-4);
      }
      expect(report.steps[1]).toBe('conv1_1+pool1');
      for (const [kind, [wrong, of]] of Object.entries(report.pictures)) {
        expect({ kind, wrong, of }).toEqual({ kind, wrong: 0, of: 4800 });
      }
      expect(report.lost).toMatch(/^(DEVICE_LOST|worked at once)$/);
      expect(report.afterLoss).toBeLessThanOrEqual(1e-4);
      expect(report.auto).toMatchObject({ backend: 'wasm', reason: expect.stringContaining('computes on the CPU') });
      expect(problems).toEqual([]);
    } finally {
      await browser.close();
    }
  });
});
