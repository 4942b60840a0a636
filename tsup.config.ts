import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { defineConfig } from 'tsup';

type Config = ReturnType<typeof defineConfig>;
type Options = Extract<Config, { entry?: unknown }>;
type Plugin = NonNullable<Options['esbuildPlugins']>[number];

/** Writes the licences of the packages that went into a bundle, which they ask to be passed on. */
const notices: Plugin = {
  name: 'notices',
  setup(build) {
    build.onEnd(({ metafile }) => {
      const folders = new Set<string>();
      for (const input of Object.keys(metafile?.inputs ?? {})) {
        const folder = /^.*node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0];
        if (folder) folders.add(folder);
      }
      const parts = [...folders].sort().map((folder) => {
        const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, 'utf8'));
        const file = readdirSync(folder).find((entry) => /^licen[cs]e/i.test(entry));
        if (!file) throw new Error(`${name} would be bundled, and has no licence file to pass on`);
        return `${name} ${version} (${license})\n\n${readFileSync(`${folder}/${file}`, 'utf8').trim()}\n`;
      });
      const title = 'The vggnet command, cli.js, contains these packages.\n';
      mkdirSync('dist', { recursive: true });
      writeFileSync('dist/THIRD-PARTY-NOTICES.txt', [title, ...parts].join(`\n${'-'.repeat(80)}\n\n`));
    });
  },
};

// The kernels are built by asc, into dist/kernels (asconfig.json).
const library: Options = {
  entry: { index: 'src/index.ts', worker: 'src/wasm/worker.ts' },
  format: 'esm',
  target: 'es2022',
  platform: 'neutral',
  dts: { entry: { index: 'src/index.ts' } },
  splitting: true,
  sourcemap: true,
  external: ['sharp', /^node:/],
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
  noExternal: ['commander', 'cli-progress'],
  removeNodeProtocol: false,
  // The bundled CommonJS packages load Node's modules by `require`, which an ES module has to make.
  banner: { js: "import { createRequire } from 'node:module';\nconst require = createRequire(import.meta.url);" },
  esbuildPlugins: [notices],
};

const config: Config = defineConfig([library, command]);

export default config;
