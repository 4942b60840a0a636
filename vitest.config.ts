import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin, type ViteUserConfig } from 'vitest/config';
import { minifyWGSL } from './scripts/minify-wgsl.js';
import { SWIFTSHADER } from './test/support/swiftshader.js';

/** Shaders as text, as the build has them. */
const shaders: Plugin = {
  name: 'shaders',
  transform(code, id) {
    return id.endsWith('.wgsl')
      ? { code: `export default ${JSON.stringify(minifyWGSL(code))};`, map: null }
      : undefined;
  },
};

const config: ViteUserConfig = defineConfig({
  plugins: [shaders],
  resolve: {
    alias: [
      {
        find: /^\.\/assets\.js$/,
        replacement: fileURLToPath(new URL('test/support/assets.ts', import.meta.url)),
      },
    ],
  },
  test: {
    include: ['test/**/*.test.ts'],
    testTimeout: 60_000,
    hookTimeout: 60_000,
    // A large network takes up to a gigabyte: no more than two at a time.
    maxWorkers: 2,
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
