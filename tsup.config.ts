import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { basename, join, relative, resolve } from 'node:path';
import { defineConfig } from 'tsup';
import { forBundlers, withTypes } from './scripts/annotate.js';
import { bundleLibrary, type LibraryOptions } from './scripts/bundle-library.js';
import { minifiedShader } from './scripts/minify-wgsl.js';
import { addBundled, writeThirdParty } from './scripts/third-party.js';

type Config = ReturnType<typeof defineConfig>;
type Options = Extract<Config, { entry?: unknown }>;
type Plugin = NonNullable<Options['esbuildPlugins']>[number];

/** Lists what of others went into a bundle. */
const notices: Plugin = {
  name: 'notices',
  setup(build) {
    build.onEnd(async ({ metafile }) => {
      for (const input of Object.keys(metafile?.inputs ?? {})) addBundled(input);
      await writeThirdParty();
    });
  },
};

/** The image decoders, of which only the WebAssembly is used. */
function copyCodecs(): void {
  mkdirSync('dist/codecs', { recursive: true });
  for (const [name, file] of Object.entries({
    jpeg: '@cwasm/jpeg-turbo/jpeg-turbo.wasm',
    webp: '@cwasm/webp/webp.wasm',
  })) {
    copyFileSync(join('node_modules', file), `dist/codecs/${name}.wasm`);
    addBundled(join('node_modules', file));
  }
}

/** Takes another module for some of the library's, by their paths in src/ without the suffix. */
const replace = (modules: Readonly<Record<string, string>>): Plugin => ({
  name: 'replace',
  setup(build) {
    build.onResolve({ filter: /^\..*\.js$/ }, ({ path, resolveDir }) => {
      const from = relative('src', join(resolveDir, path)).replace(/\.js$/, '');
      const to = modules[from];
      return to ? { path: resolve('src', `${to}.ts`) } : undefined;
    });
  },
});

/** `embedded:kernels/NAME.wasm` is that file of dist/ as base64, and `embedded:worker-training.js` the worker's script. */
const embed: Plugin = {
  name: 'embed',
  setup(build) {
    build.onResolve({ filter: /^embedded:/ }, ({ path }) => ({ path: path.slice(9), namespace: 'embedded' }));
    build.onLoad({ filter: /\.wasm$/, namespace: 'embedded' }, ({ path }) => ({
      contents: readFileSync(join('dist', path)).toString('base64'),
      loader: 'text',
    }));
    build.onLoad({ filter: /^worker-training\.js$/, namespace: 'embedded' }, async () => {
      const { outputFiles } = await build.esbuild.build({
        entryPoints: ['src/wasm/workers/worker-training.ts'],
        bundle: true,
        format: 'esm',
        target: 'es2022',
        minify: true,
        write: false,
      });
      return { contents: outputFiles[0]?.text ?? '', loader: 'text' };
    });
  },
};

const annotate: NonNullable<Options['plugins']>[number] = {
  name: 'annotate',
  renderChunk(code, { path }) {
    return { code: withTypes(forBundlers(code), basename(path)) };
  },
};

const shaders: Plugin = {
  name: 'shaders',
  setup(build) {
    build.onLoad({ filter: /\.wgsl$/ }, ({ path }) => ({
      contents: minifiedShader(path),
      loader: 'text',
    }));
  },
};

// The kernels are built by asc, into dist/kernels (asconfig.json), before.
const library: LibraryOptions = {
  entries: { index: 'src/index.ts', serve: 'src/serve/index.ts' },
  main: 'index',
  prefix: '',
};

// For edge workers, which link the kernels in.
const workerd: LibraryOptions = {
  entries: { workerd: 'src/index.ts', 'workerd-serve': 'src/serve/index.ts' },
  main: 'workerd',
  prefix: 'workerd-',
  replace: {
    'platform/assets': 'platform/assets-workerd',
    'platform/codecs': 'platform/codecs-workerd',
    'platform/embedded': 'platform/embedded-apart',
  },
};

// Alone: it needs nothing but itself.
const worker: LibraryOptions = { entries: { worker: 'src/wasm/workers/worker.ts' }, main: 'worker', prefix: 'worker-' };

// The same with the backward pass.
const trainingWorker: LibraryOptions = {
  entries: { 'worker-training': 'src/wasm/workers/worker-training.ts' },
  main: 'worker-training',
  prefix: 'worker-training-',
};

const codecWorker: LibraryOptions = {
  entries: { 'codec-worker': 'src/image/own/worker.ts' },
  main: 'codec-worker',
  prefix: 'codec-worker-',
};

const types: Options = {
  entry: library.entries,
  format: 'esm',
  dts: { only: true },
};

// In one file, so that whoever takes only that one along has all of it.
const inline: Options = {
  entry: { inline: 'src/index.ts' },
  format: 'esm',
  target: 'es2022',
  platform: 'neutral',
  splitting: false,
  minify: true,
  sourcemap: true,
  external: ['sharp', /^node:/],
  plugins: [annotate],
  esbuildPlugins: [
    shaders,
    notices,
    replace({
      'platform/assets': 'platform/assets-inline',
      'platform/codecs': 'platform/codecs-inline',
      'platform/embedded': 'platform/embedded-apart',
    }),
    embed,
  ],
};

// Apart from the library, which must not get the helpers that CommonJS packages need. It starts dist/worker.js.
const command: Options = {
  entry: { cli: 'src/cli/main.ts' },
  format: 'esm',
  target: 'node20',
  platform: 'node',
  splitting: true,
  sourcemap: true,
  external: ['sharp'],
  // Bundled, so that the package needs nothing else installed.
  noExternal: ['commander', 'cli-progress', 'hono', /^@remix-run\//],
  removeNodeProtocol: false,
  // The bundled CommonJS packages load Node's modules by `require`, which an ES module has to make.
  banner: { js: "import { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);" },
  esbuildPlugins: [shaders, notices],
};

const config: Config = defineConfig(async () => {
  copyCodecs();
  for (const options of [library, workerd, worker, trainingWorker, codecWorker]) {
    for (const path of await bundleLibrary(options)) addBundled(path);
  }
  return [types, inline, command];
});

export default config;
