import { cp, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Browser } from 'puppeteer-core';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run } from '../support/child.js';
import { createProject, type Project, ROOT } from '../support/project.js';
import { openBrowser, openPage } from './browsers.js';
import { compileScript } from './bundle.js';
import { ISOLATED, type Server, STRICT_CSP, serve } from './server.js';

/* Applications that bundle the installed package, opened in Chromium; and what a browser has to download of it. */

/** Kilobytes (1000 bytes) that all of the package may take, as gzip -9 leaves it. The aim is 60. */
const LIMIT_KB = 76;

const csp = { 'Content-Security-Policy': `${STRICT_CSP}; img-src 'self' data:` };

const BUNDLERS = join(ROOT, 'test/runtimes/bundlers/node_modules');

const LINKED = [
  '@rollup/plugin-node-resolve',
  '@web/rollup-plugin-import-meta-assets',
  'next',
  'react',
  'react-dom',
  'webpack',
];

const QUIET = { NEXT_TELEMETRY_DISABLED: '1' };

let project: Project;
let app: string;
let browser: Browser;

beforeAll(async () => {
  project = await createProject(['esbuild', 'vite', 'sharp', 'webgpu']);
  app = join(project.folder, 'bundler');
  await cp(join(ROOT, 'examples/bundler'), app, { recursive: true });
  for (const name of LINKED) {
    const link = join(project.folder, 'node_modules', name);
    await mkdir(dirname(link), { recursive: true });
    await symlink(join(BUNDLERS, name), link);
  }
  browser = await openBrowser('chromium');
}, 120_000);
afterAll(async () => {
  await browser?.close();
  await project.remove();
});

/** Opens the example, gives it a picture, and reads what it says. */
async function readCharacter(
  folder: string,
  headers: Readonly<Record<string, string>>,
  prefix = '/deep/down/',
): Promise<string[]> {
  const server = await serve({ folders: { [prefix]: folder }, headers });
  try {
    const { page, problems } = await openPage(browser, `${server.origin}${prefix}index.html`);
    await page.waitForSelector('input:enabled', { timeout: 10_000 }).catch((error) => {
      throw new Error(`The page is not ready: ${problems.join('; ') || 'it says no reason'}`, { cause: error });
    });
    const says = (): Promise<string> => page.$eval('output', (output) => output.textContent ?? '');
    const ready = await says();
    const input = await page.$('input[type=file]');
    await (input as NonNullable<typeof input>).uploadFile(join(ROOT, 'examples/images/glyph-W.png'));
    await page.waitForFunction((before) => document.querySelector('output')?.textContent !== before, {}, ready);
    const read = await says();
    await page.close();
    expect(problems).toEqual([]);
    return [ready, read];
  } finally {
    await server.close();
  }
}

async function succeed(script: string, args: readonly string[], cwd = app): Promise<string> {
  const { code, stdout, stderr } = await run(process.execPath, [script, ...args], {
    cwd,
    env: QUIET,
    timeout: 120_000,
  });
  // On a busy machine Vite tells which of its plugins took long.
  const warnings = stderr.replace(/\S*\[PLUGIN_TIMINGS\][\s\S]*?bundlertimings for more details\.\S*\s*/, '');
  expect({ code, warnings }).toEqual({ code: 0, warnings: '' });
  return stdout;
}

/** Looks at a built example with and without isolation. */
async function expectReads(folder: string, headers: Readonly<Record<string, string>>, prefix?: string): Promise<void> {
  const letter = expect.stringMatching(/^W \d/);
  expect(await readCharacter(folder, headers, prefix)).toEqual(['Ready, on wasm with 1 threads', letter]);
  const threads = expect.stringMatching(/^Ready, on wasm with [2-9]\d* threads$/);
  expect(await readCharacter(folder, { ...headers, ...ISOLATED }, prefix)).toEqual([threads, letter]);
  await rm(folder, { recursive: true });
}

describe('the example', () => {
  /** Looks at what is in dist/, on a strict page. */
  const expectWorks = (): Promise<void> => expectReads(join(app, 'dist'), csp);

  const addPage = (): Promise<void> => cp(join(app, 'index.html'), join(app, 'dist/index.html'));

  test('built by Vite', async () => {
    await succeed(join(project.folder, 'node_modules/vite/bin/vite.js'), ['build']);
    await expectWorks();
  });

  test('built by esbuild', async () => {
    expect(await succeed('esbuild.mjs', [])).toBe('');
    await expectWorks();
  });

  test('built by webpack', async () => {
    await succeed(join(BUNDLERS, 'webpack-cli/bin/cli.js'), ['--no-stats']);
    await addPage();
    await expectWorks();
  });

  test('built by Rollup', async () => {
    await succeed(join(BUNDLERS, 'rollup/dist/bin/rollup'), ['--config', '--silent']);
    await addPage();
    await expectWorks();
  });
});

test('the example for Next, built by Turbopack', { timeout: 180_000 }, async () => {
  const folder = join(project.folder, 'next');
  await cp(join(ROOT, 'examples/next'), folder, { recursive: true });
  await rename(join(folder, 'next.config.js'), join(folder, 'example.config.js'));
  // Turbopack reads nothing outside of its root, and here Next is a link to somewhere else.
  const config = "import config from './example.config.js'; export default { ...config, turbopack: { root: '/' } };";
  await writeFile(join(folder, 'next.config.js'), config);
  await succeed(join(BUNDLERS, 'next/dist/bin/next'), ['build'], folder);
  // Next's pages have scripts in them, which a strict policy forbids; and their paths are the server's.
  await expectReads(join(folder, 'out'), {}, '/');
});

describe('the size', () => {
  let folder: string;
  let server: Server;

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'vggnet-size-'));
    await writeFile(
      join(folder, 'index.html'),
      '<!doctype html><link rel="icon" href="data:,"><script type="module" src="/visit.js"></script>',
    );
  });
  afterAll(() => rm(folder, { recursive: true }));

  /** What a page downloads that loads weights, and classifies a picture on WASM with threads and then on WebGPU. */
  async function download(): Promise<Map<string, number>> {
    server = await serve({
      folders: { '/vggnet/': join(project.folder, 'node_modules/vggnet'), '/': folder },
      headers: ISOLATED,
    });
    try {
      const { page, problems } = await openPage(browser, server.origin);
      const labels = await page.evaluate(() => globalThis.visit());
      await page.close();
      expect(labels).toEqual(['wasm A', 'webgpu A']);
      expect(problems).toEqual([]);
      const own = [...server.sent].filter(([path]) => !/\.(html|png|safetensors)$|^\/(visit\.js)?$/.test(path));
      return new Map(own);
    } finally {
      await server.close();
    }
  }

  function expectSmall(files: ReadonlyMap<string, number>, what: string): void {
    const total = [...files.values()].reduce((sum, size) => sum + size, 0) / 1000;
    const list = [...files].map(([path, size]) => `${(size / 1000).toFixed(1)} ${path}`).join(', ');
    console.log(`${what}: ${total.toFixed(1)} kB gzipped (${list})`);
    expect(total, list).toBeLessThanOrEqual(LIMIT_KB);
  }

  test('of the package as it is, in a page', async () => {
    await cp(join(ROOT, 'examples/images/glyph-A.png'), join(folder, 'glyph.png'));
    await cp(join(ROOT, 'models/glyphs.safetensors'), join(folder, 'glyphs.safetensors'));
    await writeFile(join(folder, 'visit.js'), await compileScript('visit.ts', '/vggnet/dist/index.js'));
    const files = await download();
    expect([...files.keys()]).toContain('/vggnet/dist/worker.js');
    expectSmall(files, 'the package in a page');
  });
});

describe('tree shaking', () => {
  test.each(['VGG_TYPES', 'MODEL_NAMES'])('%s alone brings no backend along, by Vite', async (name) => {
    const { build: bundle } = await import('vite');
    const entry = join(project.folder, `${name}.js`);
    await writeFile(entry, `import { ${name} } from 'vggnet'; console.log(${name});`);
    const result = await bundle({
      root: project.folder,
      configFile: false,
      logLevel: 'silent',
      build: { write: false, rollupOptions: { input: entry } },
    });
    const { output } = result as { output: { type: string; code?: string; fileName: string }[] };
    const code = output.map(({ code = '' }) => code).join('');
    expect(code).not.toMatch(/WebAssembly|Worker|navigator/);
    expect(code.length).toBeLessThan(512);
  });

  test('the worker needs nothing but itself', async () => {
    const worker = await readFile(join(project.folder, 'node_modules/vggnet/dist/worker.js'), 'utf8');
    expect(worker).not.toMatch(/\bimport\b\s*["'(]|\bfrom\s*["']/);
  });
});
