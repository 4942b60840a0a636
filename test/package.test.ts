import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run } from './support/child.js';

/* The package as npm packs it, installed into a project that has nothing else. */

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const IMAGE = join(ROOT, 'examples/images/glyph-A.png');

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly unpackedSize: number;
  readonly files: readonly { readonly path: string; readonly size: number }[];
}

let project: string;
let packed: Packed;

beforeAll(async () => {
  project = await mkdtemp(join(tmpdir(), 'vggnet-package-'));
  const pack = await run('npm', ['pack', '--json', '--pack-destination', project], { cwd: ROOT });
  expect(pack.code, pack.stderr).toBe(0);
  [packed] = JSON.parse(pack.stdout) as [Packed];
  await writeFile(join(project, 'package.json'), JSON.stringify({ private: true, type: 'module' }));
  const install = ['install', '--no-audit', '--no-fund', '--offline', `./${packed.filename}`];
  const installed = await run('npm', install, { cwd: project });
  expect(installed.code, installed.stderr).toBe(0);
}, 120_000);
afterAll(() => rm(project, { recursive: true }));

/** Runs a module of the project. */
async function runInProject(source: string): Promise<string> {
  const file = join(project, `${Math.random().toString(36).slice(2)}.mjs`);
  await writeFile(file, source);
  const { code, stdout, stderr } = await run(process.execPath, [file], { cwd: project });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  return stdout;
}

describe('the tarball', () => {
  test('has what is run and what explains it, and nothing else', () => {
    const paths = packed.files.map(({ path }) => path);
    for (const path of [
      'package.json',
      'LICENSE',
      'README.md',
      'CHANGELOG.md',
      'models/glyphs.safetensors',
      'models/GLYPHS.md',
      'dist/index.js',
      'dist/index.d.ts',
      'dist/worker.js',
      'dist/cli.js',
      'dist/kernels/simd.wasm',
      'dist/kernels/relaxed-simd.wasm',
    ]) {
      expect(paths).toContain(path);
    }
    const allowed =
      /^(package\.json|LICENSE|(README|CHANGELOG)\.md|models\/(glyphs\.safetensors|GLYPHS\.md)|dist\/.+)$/;
    expect(paths.filter((path) => !allowed.test(path))).toEqual([]);
    expect(paths.filter((path) => /\.map$|debug|\.test\.|(?<!\.d)\.ts$/.test(path))).toEqual([]);
  });

  test('every file of dist is one that the library, the worker or the command loads', async () => {
    const names = packed.files.map(({ path }) => path).filter((path) => /^dist\/[^/]+\.js$/.test(path));
    const reached = new Set(['dist/index.js', 'dist/worker.js', 'dist/cli.js']);
    for (const path of reached) {
      const text = await readFile(join(project, 'node_modules/vggnet', path), 'utf8');
      for (const [, name] of text.matchAll(/["']\.\/([\w-]+\.js)["']/g)) reached.add(`dist/${name}`);
    }
    expect(names.filter((path) => !reached.has(path))).toEqual([]);
  });

  test('is small: the model is most of it', () => {
    const rest = packed.unpackedSize - (packed.files.find(({ path }) => path.endsWith('.safetensors'))?.size ?? 0);
    expect(packed.size).toBeLessThan(1.2 * 2 ** 20);
    expect(rest).toBeLessThan(800 * 1024);
  });

  test('needs no other package', async () => {
    const lock = JSON.parse(await readFile(join(project, 'package-lock.json'), 'utf8'));
    expect(Object.keys(lock.packages)).toEqual(['', 'node_modules/vggnet']);
  });
});

describe('installed', () => {
  test('a list network runs in its worker', async () => {
    const stdout = await runInProject(`
      import { VGGNet, Tensor } from 'vggnet';
      const model = await VGGNet.create([8, 'M', 16, 'M'], { numClasses: 10, hiddenFeatures: 32 });
      const logits = await model.forward(Tensor.randn([2, 3, 28, 28]));
      console.log(model.device.inline, logits.shape.join(), logits.data.every(Number.isFinite));
    `);
    expect(stdout).toBe('false 2,10 true\n');
  });

  test('the embedded model reads raw pixels', async () => {
    const sharp = (await import('sharp')).default;
    const { data, info } = await sharp(IMAGE)
      .toColourspace('srgb')
      .ensureAlpha()
      .raw()
      .toBuffer({ resolveWithObject: true });
    await writeFile(join(project, 'pixels.rgba'), data);
    const stdout = await runInProject(`
      import { readFileSync } from 'node:fs';
      import { VGGNet } from 'vggnet';
      const model = await VGGNet.create('glyphs');
      const data = new Uint8Array(readFileSync('pixels.rgba'));
      const [best] = await model.classify({ data, width: ${info.width}, height: ${info.height} });
      console.log(best.label, best.probability > 0.9);
    `);
    expect(stdout).toBe('A true\n');
  });

  test('an image file without sharp is a clear error, and the model goes on', async () => {
    const stdout = await runInProject(`
      import { VGGNet, Tensor } from 'vggnet';
      const model = await VGGNet.create('glyphs');
      await model.classify(${JSON.stringify(IMAGE)}).catch((error) => console.log(error.code, error.message));
      console.log((await model.forward(Tensor.zeros([1, 1, 32, 32]))).shape.join());
    `);
    expect(stdout).toMatch(/^MISSING_PEER .*npm install sharp.*\n1,36\n$/);
  });

  test('the command is there', async () => {
    const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
    const vggnet = (...args: string[]) => run(join(project, 'node_modules/.bin/vggnet'), args, { cwd: project });
    expect(await vggnet('--version')).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: '' });
    const summary = await vggnet('summary', 'vgg16');
    expect(summary).toMatchObject({ code: 0, stderr: '' });
    expect(summary.stdout).toMatch(/conv5_3 .*138,357,544/s);
    const missing = await vggnet('classify', IMAGE);
    expect(missing.code).toBe(1);
    expect(missing.stderr).toContain('npm install sharp');
  });

  test.each(['NodeNext', 'Bundler'])('its types resolve and hold, module resolution %s', async (moduleResolution) => {
    await mkdir(join(project, 'types'), { recursive: true });
    const file = join(project, 'types', `${moduleResolution}.ts`);
    await writeFile(
      file,
      `
      import { type Prediction, Tensor, VGG_TYPES, VGGNet, VGGNetError, vgg16_bn } from 'vggnet';
      const model: VGGNet = await VGGNet.create([...VGG_TYPES.VGG11, 8], { numClasses: 2, device: 'wasm' });
      const logits: Tensor = await model.forward(Tensor.randn([1, 3, 224, 224]), { signal: AbortSignal.timeout(9) });
      const shape: readonly number[] = logits.shape;
      const one: Prediction[] = await model.classify('cat.jpg', { topK: 1 });
      const many: Prediction[][] = await model.classify(['cat.jpg', new Blob([])]);
      const { relu1_1 } = await model.features(logits, ['relu1_1']);
      const size: number = relu1_1.size;
      const build: Promise<VGGNet> = vgg16_bn({ weights: new URL('https://example.org/a.safetensors') });
      if (new VGGNetError('ABORTED', '').code === 'ABORTED') console.log(shape, one, many, size, build);
      // @ts-expect-error 'tpu' is no device
      await VGGNet.create('vgg16', { device: 'tpu' });
      // @ts-expect-error no such layer was asked for
      (await model.features(logits, ['fc6'])).fc7;
      // @ts-expect-error data is float32
      new Tensor([1, 2, 3], [3]);
      `,
    );
    const options = {
      strict: true,
      noEmit: true,
      exactOptionalPropertyTypes: true,
      target: 'ES2022',
      lib: ['ES2022', 'ESNext.Disposable', 'DOM'],
      module: moduleResolution === 'NodeNext' ? 'NodeNext' : 'ESNext',
      moduleResolution,
      types: [],
    };
    const config = join(project, `tsconfig.${moduleResolution}.json`);
    await writeFile(config, JSON.stringify({ compilerOptions: options, files: [file] }));
    const tsc = join(ROOT, 'node_modules/typescript/bin/tsc');
    const { stdout, code } = await run(process.execPath, [tsc, '-p', config], { cwd: project });
    expect({ stdout, code }).toEqual({ stdout: '', code: 0 });
  });
});

describe('bundled for a browser', () => {
  async function bundle(contents: string): Promise<{ code: string; warnings: readonly string[] }> {
    const result = await build({
      stdin: { contents, resolveDir: project },
      bundle: true,
      minify: true,
      write: false,
      format: 'esm',
      platform: 'browser',
      target: 'es2022',
      external: ['sharp'],
      logLevel: 'silent',
      outdir: join(project, 'out'),
    });
    return { code: result.outputFiles[0]?.text ?? '', warnings: result.warnings.map(({ text }) => text) };
  }

  test('VGG_TYPES alone brings no backend along', async () => {
    const { code, warnings } = await bundle("import { VGG_TYPES } from 'vggnet'; console.log(VGG_TYPES.VGG16);");
    expect(warnings).toEqual([]);
    expect(code).not.toMatch(/WebAssembly|Worker|class /);
    // The lists, and a few constants that a bundler cannot prove to be without effect.
    expect(code.length).toBeLessThan(2048);
  });

  test('Tensor alone brings no backend along', async () => {
    const { code } = await bundle("import { Tensor } from 'vggnet'; console.log(Tensor.zeros([1]));");
    expect(code).not.toMatch(/WebAssembly|Worker/);
    expect(code.length).toBeLessThan(8 * 1024);
  });

  test('all of it needs nothing of Node', async () => {
    const { code, warnings } = await bundle("export * from 'vggnet';");
    expect(warnings).toEqual([]);
    expect(code).not.toMatch(/(from|import\()\s*["']node:/);
    // 102 KiB with threads, a tenth of it the names of ImageNet's classes.
    expect(code.length).toBeLessThan(120 * 1024);
  });
});
