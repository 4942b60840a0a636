import { copyFile, cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createProject, type Project, ROOT } from '../support/project.js';
import { readmeBlocks } from '../support/readme.js';
import { openBrowser, openPage } from './browsers.js';
import { bun, type Command, deno, node, runScript } from './processes.js';
import { ISOLATED, serve } from './server.js';
import { bundleWorker, startWorker } from './workerd.js';

/* The examples, and the code of the README and of docs/install.md word for word, on the package as it is installed. */

const IMAGES = ['glyph-A.png', 'glyph-W.png'];

let bare: Project;
let project: Project;

beforeAll(async () => {
  bare = await createProject();
  project = await createProject(['sharp']);
  for (const image of IMAGES) await copyFile(join(ROOT, 'examples/images', image), join(project.folder, image));
}, 120_000);
afterAll(async () => {
  await bare.remove();
  await project.remove();
});

const RUNTIMES: readonly (readonly [name: string, find: () => Promise<Command>])[] = [
  ['Node 20', () => node(20)],
  ['Deno', deno],
  ['Bun', bun],
];

describe('the README and docs/install.md', () => {
  test.each(RUNTIMES)('the first example in %s, with nothing else installed', async (_, find) => {
    const [first] = await readmeBlocks('vggnet');
    expect(first?.language).toBe('js');
    await writeFile(join(bare.folder, 'first.mjs'), first?.code ?? '');
    expect(await runScript(await find(), 'first.mjs', { cwd: bare.folder })).toBe('[ 1, 1000 ]\n');
  });

  test.each(RUNTIMES)('the one for Node, Deno and Bun in %s', async (_, find) => {
    const [code] = (await readmeBlocks('Node, Deno, Bun', 'docs/install.md')).filter(
      ({ language }) => language === 'js',
    );
    await writeFile(join(project.folder, 'processes.mjs'), code?.code ?? '');
    expect(await runScript(await find(), 'processes.mjs', { cwd: project.folder })).toBe('A\n');
  });

  test('the one for a page, in Chromium and Firefox', async () => {
    const [code] = (await readmeBlocks('Browsers', 'docs/install.md')).filter(({ language }) => language === 'html');
    const folder = await mkdtemp(join(tmpdir(), 'vggnet-readme-'));
    await writeFile(join(folder, 'index.html'), `<!doctype html><link rel="icon" href="data:,">\n${code?.code}`);
    await copyFile(join(ROOT, 'examples/images/glyph-A.png'), join(folder, 'glyph-A.png'));
    const folders = { '/node_modules/': join(bare.folder, 'node_modules'), '/': folder };
    const server = await serve({ folders, headers: ISOLATED });
    try {
      for (const name of ['chromium', 'firefox'] as const) {
        const browser = await openBrowser(name);
        try {
          const { page, problems } = await openPage(browser, server.origin);
          await page.waitForFunction(() => document.querySelector('output')?.textContent !== '', { timeout: 10_000 });
          expect(await page.$eval('output', (output) => output.textContent)).toBe('A');
          expect(problems).toEqual([]);
        } finally {
          await browser.close();
        }
      }
    } finally {
      await server.close();
      await rm(folder, { recursive: true });
    }
  });

  test('the one for an edge worker, in workerd, and requests that overlap', async () => {
    const [code] = (await readmeBlocks('Edge workers', 'docs/install.md')).filter(({ language }) => language === 'js');
    await writeFile(join(bare.folder, 'worker.mjs'), code?.code ?? '');
    const worker = startWorker(await bundleWorker(join(bare.folder, 'worker.mjs'), bare.folder), bare.folder);
    try {
      const { default: sharp } = await import('sharp');
      const body = await sharp(join(ROOT, 'examples/images/glyph-A.png')).resize(32, 32).greyscale().raw().toBuffer();
      const ask = async (): Promise<unknown> =>
        (await worker.dispatchFetch('http://worker/', { method: 'POST', body: new Uint8Array(body) })).text();
      expect(await Promise.all(Array.from({ length: 8 }, ask))).toEqual(Array(8).fill('A'));
    } finally {
      await worker.dispose();
    }
  });
});

describe('examples/', () => {
  test('quickstart.mjs, for Node', async () => {
    await mkdir(join(project.folder, 'quickstart/images'), { recursive: true });
    await copyFile(join(ROOT, 'examples/quickstart.mjs'), join(project.folder, 'quickstart/quickstart.mjs'));
    await cp(join(ROOT, 'examples/images'), join(project.folder, 'quickstart/images'), { recursive: true });
    const printed = await runScript(await node(20), 'quickstart/quickstart.mjs', { cwd: project.folder });
    expect(printed).toMatch(/^glyph-A\.png +A 98\.\d%/m);
    expect(printed).toMatch(/^\[1, 1000\] in \d+ ms$/m);
  });

  const SCRIPTS: readonly (readonly [file: string, find: () => Promise<Command>])[] = [
    ['deno.ts', async () => ({ ...(await deno()), args: await permissionsOf('deno.ts') })],
    ['bun.ts', bun],
  ];
  test.each(SCRIPTS)('%s', async (file, find) => {
    await copyFile(join(ROOT, 'examples', file), join(project.folder, file));
    const printed = await runScript(await find(), file, { cwd: project.folder, args: IMAGES });
    expect(printed).toMatch(/^glyph-A\.png A 0\.98\d\nglyph-W\.png W 0\.\d{3}\n$/);
  });
});

/** The arguments that a Deno example says to run it with. */
async function permissionsOf(file: string): Promise<string[]> {
  const text = await readFile(join(ROOT, 'examples', file), 'utf8');
  const permissions = /^\/\/ +deno (run(?: --[\w-]+)*)/m.exec(text)?.[1]?.split(' ') ?? [];
  expect(permissions.length).toBeGreaterThan(1);
  return [...permissions, '--no-lock', '--no-prompt', '--cached-only'];
}
