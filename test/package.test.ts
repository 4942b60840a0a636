import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { build } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { run } from './support/child.js';
import { createProject, type Packed, type Project, ROOT } from './support/project.js';

/* The package as npm packs it, installed into a project that has nothing else. */

const IMAGE = join(ROOT, 'examples/images/glyph-A.png');

let installed: Project;
let project: string;
let packed: Packed;

beforeAll(async () => {
  installed = await createProject();
  project = installed.folder;
  packed = installed.packed;
}, 120_000);
afterAll(() => installed.remove());

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
      'SECURITY.md',
      'docs/install.md',
      'dist/THIRD-PARTY-NOTICES.txt',
      'dist/sbom.cdx.json',
      'models/glyphs.safetensors',
      'models/GLYPHS.md',
      'dist/index.js',
      'models/glyphs.d.ts',
      'dist/index.d.ts',
      'dist/inline.js',
      'dist/worker.js',
      'dist/workerd.js',
      'dist/cli.js',
      'dist/kernels/simd.wasm',
      'dist/kernels/relaxed-simd.wasm',
    ]) {
      expect(paths).toContain(path);
    }
    const allowed =
      /^(package\.json|LICENSE|(README|ARCHITECTURE|CHANGELOG|CONTRIBUTING|SECURITY)\.md|docs\/[a-z]+\.md|models\/(glyphs\.(safetensors|d\.ts)|GLYPHS\.md)|dist\/.+)$/;
    expect(paths.filter((path) => !allowed.test(path))).toEqual([]);
    expect(paths.filter((path) => /\.map$|debug|\.test\.|(?<!\.d)\.ts$/.test(path))).toEqual([]);
  });

  test('every script of dist is one that something loads, or stands beside types of its own', async () => {
    const paths = packed.files.map(({ path }) => path);
    const { exports, bin } = JSON.parse(await readFile(join(project, 'node_modules/vggnet/package.json'), 'utf8'));
    const text = JSON.stringify([exports, bin]);
    const reached = new Set(paths.filter((path) => text.includes(path)));
    reached.add('dist/worker.js');
    for (const path of reached) {
      if (!path.endsWith('.js')) continue;
      const script = await readFile(join(project, 'node_modules/vggnet', path), 'utf8');
      for (const [, name] of script.matchAll(/["'`]\.\/([\w-]+\.js)["'`]/g)) reached.add(`dist/${name}`);
    }
    const scripts = paths.filter((path) => /^dist\/[^/]+\.js$/.test(path));
    expect(scripts.length).toBeGreaterThan(5);
    const typed = (path: string): boolean => paths.includes(path.replace(/\.js$/, '.d.ts'));
    expect(scripts.filter((path) => !reached.has(path) && !typed(path))).toEqual([]);
  });

  test('is small', () => {
    const code = packed.files.filter(({ path }) => path.startsWith('dist/')).reduce((sum, { size }) => sum + size, 0);
    expect(packed.size).toBeLessThan(1.75 * 2 ** 20);
    // Four builds: the library, the one for edge workers, the one in a single file, and the command; and all kernels.
    expect(code).toBeLessThan(3.25 * 2 ** 20);
  });

  test('needs no other package', async () => {
    const lock = JSON.parse(await readFile(join(project, 'package-lock.json'), 'utf8'));
    expect(Object.keys(lock.packages)).toEqual(['', 'node_modules/vggnet']);
  });
});

describe('its manifests', () => {
  test('every export is there, with its types first', async () => {
    const paths = new Set(packed.files.map(({ path }) => `./${path}`));
    const { exports } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8')) as {
      exports: Record<string, string | Record<string, string>>;
    };
    expect(Object.keys(exports['.'] as object)).toEqual([
      'types',
      'workerd',
      'deno',
      'bun',
      'browser',
      'node',
      'default',
    ]);
    for (const [name, target] of Object.entries(exports)) {
      const targets = typeof target === 'string' ? [target] : Object.values(target);
      if (typeof target !== 'string') expect(Object.keys(target)[0], name).toBe('types');
      expect(targets.filter((path) => path !== './package.json' && !paths.has(path))).toEqual([]);
    }
  });

  test('JSR would take it', async () => {
    const own = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
    const jsr = JSON.parse(await readFile(join(ROOT, 'jsr.json'), 'utf8'));
    expect([jsr.version, jsr.license]).toEqual([own.version, own.license]);
    const env = { DENO_NO_UPDATE_CHECK: '1', NO_COLOR: '1' };
    const { code, stderr } = await run(
      join(ROOT, 'node_modules/.bin/deno'),
      ['publish', '--dry-run', '--allow-dirty', '--no-lock'],
      { cwd: ROOT, env },
    );
    expect(code, stderr).toBe(0);
    const files = Array.from(stderr.matchAll(/^ +file:\S*?\/((?:dist|models|src|test)\/\S+) \(/gm), ([, path]) => path);
    for (const file of ['dist/index.js', 'dist/kernels/simd.wasm', 'dist/worker.js', 'models/glyphs.safetensors']) {
      expect(files).toContain(file);
    }
    expect(files.filter((path) => /cli\.js|\.map|debug|^src|^test/.test(path ?? ''))).toEqual([]);
    expect(stderr).toContain('Dry run complete');
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

  test('without sharp a PNG is decoded, and a GIF is a clear error after which the model goes on', async () => {
    const gif = join(ROOT, 'test/golden/images/palette.gif');
    const stdout = await runInProject(`
      import { VGGNet, Tensor } from 'vggnet';
      const model = await VGGNet.create('glyphs');
      const [best] = await model.classify(${JSON.stringify(IMAGE)});
      console.log(best.label);
      await model.classify(${JSON.stringify(gif)}).catch((error) => console.log(error.code, error.message));
      console.log((await model.forward(Tensor.zeros([1, 1, 32, 32]))).shape.join());
    `);
    expect(stdout).toMatch(/^A\nMISSING_PEER .*npm install sharp.*\n1,36\n$/);
  });

  test('the command is there', async () => {
    const { version } = JSON.parse(await readFile(join(ROOT, 'package.json'), 'utf8'));
    const vggnet = (...args: string[]) => run(join(project, 'node_modules/.bin/vggnet'), args, { cwd: project });
    expect(await vggnet('--version')).toMatchObject({ code: 0, stdout: `${version}\n`, stderr: '' });
    const summary = await vggnet('summary', 'vgg16');
    expect(summary).toMatchObject({ code: 0, stderr: '' });
    expect(summary.stdout).toMatch(/conv5_3 .*138,357,544/s);
    const read = await vggnet('classify', IMAGE);
    expect(read).toMatchObject({ code: 0, stderr: '' });
    expect(read.stdout).toContain('A');
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
    expect(code).not.toMatch(/WebAssembly|Worker|navigator/);
    expect(code.length).toBeLessThan(512);
  });

  test('Tensor alone brings no backend along', async () => {
    const { code } = await bundle("import { Tensor } from 'vggnet'; console.log(Tensor.zeros([1]));");
    expect(code).not.toMatch(/WebAssembly|Worker/);
    expect(code.length).toBeLessThan(5.5 * 1024);
  });

  test('all of it needs nothing of Node', async () => {
    const { code, warnings } = await bundle("export * from 'vggnet';");
    expect(warnings).toEqual([]);
    expect(code).not.toMatch(/(from|import\()\s*["']node:/);
    // Without splitting, so with all that is loaded only when it is needed: readers of weights, WebGPU, gradients, class names.
    expect(code.length).toBeLessThan(360 * 1024);
  });
});
