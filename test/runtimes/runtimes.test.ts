import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Browser } from 'puppeteer-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Tensor } from '../../src/tensor.js';
import { expectClose } from '../support/close.js';
import { NETWORK_TOLERANCE, positions } from '../support/golden.js';
import { createProject, type Project } from '../support/project.js';
import { SWIFTSHADER } from '../support/swiftshader.js';
import { type BrowserName, openBrowser, openPage } from './browsers.js';
import { compileScript } from './bundle.js';
import { GOLDEN, sampleImages, writeFixture } from './fixture.js';
import { bun, type Command, deno, node, runScript } from './processes.js';
import { ISOLATED, STRICT_CSP, serve } from './server.js';
import { type SmokeOptions, type SmokeReport, smoke } from './smoke.js';
import { bundleWorker, startWorker, WORKER } from './workerd.js';

/* One script (smoke.ts) in every runtime, on the package as it is packed and installed. */

const library = (await import(new URL('../../dist/index.js', import.meta.url).href)) as typeof import('vggnet');

/** Of the logits with plain SIMD, computed right here: the same bits are to come out everywhere. */
let hash: string;
let gradients: string;
/** The same with weights in int8 and int4. */
let fewHash: string;
let project: Project;
let fixture: string;

beforeAll(async () => {
  fixture = await mkdtemp(join(tmpdir(), 'vggnet-fixture-'));
  project = await createProject(['sharp', 'webgpu']);
  await writeFixture(fixture);
  const read = async (name: string): Promise<Uint8Array<ArrayBuffer>> =>
    new Uint8Array(await readFile(join(fixture, name)));
  const here = await smoke(library, read, { threads: [1], images: false, webgpu: false, apart: false });
  hash = here.deterministic[0]?.hash ?? '';
  gradients = here.deterministic[0]?.gradients ?? '';
  fewHash = here.few.hash;
  await writeFile(join(project.folder, 'host-process.mjs'), await compileScript('host-process.ts'));
}, 120_000);
afterAll(async () => {
  await project.remove();
  await rm(fixture, { recursive: true });
});

interface Expected extends SmokeOptions {
  /** Threads that a model gets for each number asked for. */
  readonly given: readonly number[];
}

function expectReport(report: SmokeReport, { given, images, webgpu }: Expected): void {
  const labels = sampleImages().map(({ label }) => label);
  expect(report.pixels.map(([label]) => label)).toEqual(labels);
  expect(report.files.map(([label]) => label)).toEqual(images ? labels : []);
  expect(Math.min(...report.pixels.map(([, probability]) => probability))).toBeGreaterThan(0.5);
  expect(report.deterministic.map(({ place }) => place)).toEqual(
    given.map((threads) => ({ backend: 'wasm', build: 'simd', threads, inline: report.place.inline })),
  );
  expect(report.deterministic.map(({ hash }) => hash)).toEqual(given.map(() => hash));
  expect(report.deterministic.map((one) => one.gradients)).toEqual(given.map(() => gradients));
  expect(report.few.hash).toBe(fewHash);
  // Sums are equal; an epilogue that is rounded once and not twice may move an activation to the next of 127 steps.
  expect(report.few.difference).toBeLessThan(0.01);
  for (const { logits, place } of report.deterministic) expectGolden(logits, `plain SIMD, ${place.threads} threads`);
  expect(report.webgpu?.place.backend).toBe(webgpu ? 'webgpu' : undefined);
  if (report.webgpu) expectGolden(report.webgpu.logits, 'webgpu');
  expect(report.errors).toEqual({
    'an unknown model': 'UNKNOWN_MODEL',
    'an unknown device': 'INVALID_ARGUMENT',
    'a list that is none': 'INVALID_ARCHITECTURE',
    'weights that end early': 'INVALID_WEIGHTS_FILE',
    'weights of another network': 'WEIGHTS_MISMATCH',
    'an input of another shape': 'INVALID_SHAPE',
    'an input that is too small': 'INVALID_SHAPE',
    'an unknown layer': 'UNKNOWN_LAYER',
    'bytes that are no image': 'INVALID_IMAGE',
    'too few pixels': 'INVALID_IMAGE',
    'a signal that fired': 'ABORTED',
    'a model disposed of': 'DISPOSED',
  });
}

/** The logits that PyTorch has for the list networks. */
function expectGolden(logits: Readonly<Record<string, readonly number[]>>, what: string): void {
  const computed = GOLDEN.filter(({ name = '' }) => name in logits);
  expect(computed.length, what).toBeGreaterThan(0);
  for (const { name = '', outputs } of computed) {
    const all = logits[name] ?? [];
    const images = outputs.fc8?.images ?? [];
    expect(images.length).toBeGreaterThan(0);
    const size = all.length / images.length;
    for (const [n, { values }] of images.entries()) {
      const own = positions(size, values.length).map((index) => all[n * size + index] as Tensor['data'][number]);
      expectClose(own, values, { ...NETWORK_TOLERANCE, what: `${name} on ${what}, image ${n}` });
    }
  }
}

const swiftshader = { VK_ICD_FILENAMES: SWIFTSHADER ?? '' };

interface ProcessCase {
  readonly name: string;
  readonly find: () => Promise<Command>;
  readonly webgpu: boolean;
  /** Where its WebGPU finds an adapter. */
  readonly env: Record<string, string>;
}

const PROCESSES: readonly ProcessCase[] = [
  { name: 'Node 20', find: () => node(20), webgpu: true, env: swiftshader },
  { name: 'Node 24', find: () => node(24), webgpu: true, env: swiftshader },
  { name: 'Node 26', find: () => node(26), webgpu: true, env: swiftshader },
  { name: 'Deno', find: deno, webgpu: true, env: {} },
  // It has no navigator.gpu, and the package webgpu is written for Node.
  { name: 'Bun', find: bun, webgpu: false, env: {} },
];

describe('a process', () => {
  test.each(PROCESSES)('$name', async ({ find, webgpu, env }) => {
    const options: SmokeOptions = { threads: [1, 2, 3], images: true, webgpu, apart: false };
    const args = [fixture, JSON.stringify(options)];
    const printed = await runScript(await find(), 'host-process.mjs', { cwd: project.folder, args, env });
    const report = JSON.parse(printed) as SmokeReport;
    expectReport(report, { ...options, given: [1, 2, 3] });
    expect(report.place.inline).toBe(false);
  });
});

describe('workerd', () => {
  test('an edge worker', async () => {
    const bundle = await bundleWorker(WORKER, project.folder);
    expect([...bundle.wasm.keys()].sort()).toEqual([
      'jpeg.wasm',
      'relaxed-simd-training.wasm',
      'simd-training.wasm',
      'webp.wasm',
    ]);
    expect(bundle.script).not.toMatch(/WebAssembly\.compile|new Worker\b/);
    const options: SmokeOptions = { threads: [1, 2], images: false, webgpu: false, apart: true };
    const worker = startWorker(bundle, fixture);
    try {
      const response = await worker.dispatchFetch('http://worker/', { method: 'POST', body: JSON.stringify(options) });
      const text = await response.text();
      expect(response.status, text).toBe(200);
      const report = JSON.parse(text) as SmokeReport;
      expectReport(report, { ...options, given: [1, 1] });
      expect(report.place).toMatchObject({ backend: 'wasm', threads: 1, inline: true });
    } finally {
      await worker.dispose();
    }
  });
});

const ICON = '<link rel="icon" href="/icon.png">';
const csp = { 'Content-Security-Policy': `${STRICT_CSP}; img-src 'self'` };

describe.each<BrowserName>(['chromium', 'firefox'])('%s', (name) => {
  let browser: Browser;
  let pages: string;

  beforeAll(async () => {
    pages = await mkdtemp(join(tmpdir(), 'vggnet-page-'));
    await writeFile(join(pages, 'index.html'), `<!doctype html>${ICON}<script type="module" src="/host.js"></script>`);
    await copyFile(join(fixture, 'glyph-A.png'), join(pages, 'icon.png'));
    browser = await openBrowser(name);
  });
  afterAll(async () => {
    await browser?.close();
    await rm(pages, { recursive: true });
  });

  interface PageCase {
    readonly what: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly given: readonly number[];
  }

  const cases: readonly PageCase[] = [
    { what: 'a page under a strict policy', headers: csp, given: [1, 1, 1] },
    { what: 'one that is cross-origin isolated too', headers: { ...csp, ...ISOLATED }, given: [1, 2, 3] },
  ];

  /** Runs the smoke test in a page that imports the package's own file. */
  async function runPage(
    library: (origin: string) => string,
    headers: Readonly<Record<string, string>>,
    options: SmokeOptions,
  ): Promise<{ report: SmokeReport; problems: readonly string[]; sent: readonly string[] }> {
    const vggnet = join(project.folder, 'node_modules/vggnet');
    const cors = { 'Access-Control-Allow-Origin': '*', 'Cross-Origin-Resource-Policy': 'cross-origin' };
    const cdn = await serve({ folders: { '/vggnet/': vggnet }, headers: cors });
    const folders = { '/vggnet/': vggnet, '/fixture/': fixture, '/': pages };
    const server = await serve({ folders, headers });
    try {
      await writeFile(join(pages, 'host.js'), await compileScript('host-page.ts', library(cdn.origin)));
      const { page, problems } = await openPage(browser, server.origin);
      const report = await page.evaluate((given) => globalThis.runSmoke(given), options);
      await page.close();
      return { report, problems, sent: [...server.sent.keys(), ...cdn.sent.keys()] };
    } finally {
      await server.close();
      await cdn.close();
    }
  }

  test.each(cases)('$what', async ({ headers, given }) => {
    const options: SmokeOptions = { threads: [1, 2, 3], images: true, webgpu: true, apart: false };
    const { report, problems } = await runPage(() => '/vggnet/dist/index.js', headers, options);
    expectReport(report, { ...options, given });
    expect(report.place.inline).toBe(false);
    expect(problems).toEqual([]);
  });

  test("one that imports the package from another origin, such as a CDN's", async () => {
    const options: SmokeOptions = { threads: [2], images: false, webgpu: false, apart: false };
    const { report, problems } = await runPage((cdn) => `${cdn}/vggnet/dist/index.js`, ISOLATED, options);
    expectReport(report, { ...options, given: [2] });
    expect(report.place.inline).toBe(false);
    expect(problems).toEqual([]);
  });

  test('one that takes the single file', async () => {
    const options: SmokeOptions = { threads: [1, 2], images: false, webgpu: false, apart: true };
    const { report, problems, sent } = await runPage(() => '/vggnet/dist/inline.js', ISOLATED, options);
    expectReport(report, { ...options, given: [1, 2] });
    expect(problems).toEqual([]);
    expect(sent.filter((path) => path.startsWith('/vggnet/'))).toEqual(['/vggnet/dist/inline.js']);
  });

  test('one whose policy forbids WebAssembly gets a typed error', async () => {
    const headers = { 'Content-Security-Policy': "script-src 'self'" };
    const options: SmokeOptions = { threads: [1], images: false, webgpu: false, apart: false };
    const run = runPage(() => '/vggnet/dist/index.js', headers, options);
    await expect(run).rejects.toThrow(/The kernels could not be compiled.*wasm-unsafe-eval/);
  });
});
