import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin, type ViteUserConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';
import { minifiedShader } from './scripts/minify-wgsl.js';
import { SWIFTSHADER } from './test/support/swiftshader.js';

/** Shaders as text, as the build has them. */
const shaders: Plugin = {
  name: 'shaders',
  load(id) {
    return id.endsWith('.wgsl') ? `export default ${JSON.stringify(minifiedShader(id))};` : undefined;
  },
};

/** Files that take minutes. */
const LONG = [
  'test/cli/serve-load.test.ts',
  'test/networks-slow.test.ts',
  'test/networks.test.ts',
  'test/ops/conv2d.test.ts',
  'test/ops/linear.test.ts',
  'test/webgpu/fp16.test.ts',
];

/** They come first, so that the last one does not run alone. */
class LongFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification): number => {
      const place = LONG.findIndex((name) => moduleId.endsWith(name));
      return place < 0 ? LONG.length : place;
    };
    return (await super.sort(files)).sort((a, b) => rank(a) - rank(b));
  }
}

const config: ViteUserConfig = defineConfig({
  plugins: [shaders],
  resolve: {
    alias: [
      // Tests run the sources. Those of the package, of runtimes and of bundles import dist/ by its path.
      { find: /^vggnet$/, replacement: fileURLToPath(new URL('src/index.ts', import.meta.url)) },
      {
        find: /^.*\/platform\/assets\.js$/,
        replacement: fileURLToPath(new URL('test/support/assets.ts', import.meta.url)),
      },
      {
        find: /^.*\/platform\/codecs\.js$/,
        replacement: fileURLToPath(new URL('test/support/codecs.ts', import.meta.url)),
      },
      {
        find: /^.*\/platform\/embedded\.js$/,
        replacement: fileURLToPath(new URL('test/support/embedded.ts', import.meta.url)),
      },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // A large network takes up to a gigabyte: no more than two at a time.
    maxWorkers: 2,
    sequence: { sequencer: LongFirst },
    // Where there is none, the tests of WebGPU fail.
    env: {
      ...(SWIFTSHADER ? { VK_ICD_FILENAMES: SWIFTSHADER } : {}),
      // Mesa's drivers complain on stderr where there is none.
      XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? tmpdir(),
    },
    // So that the relaxed-SIMD kernels are tested on Node 20 too, which has them behind this flag.
    // The other lets tests that make hundreds of memories collect those that they are done with.
    execArgv: ['--experimental-wasm-relaxed-simd', '--expose-gc'],
  },
});

export default config;
