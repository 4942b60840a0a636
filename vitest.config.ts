import { existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin, type ViteUserConfig } from 'vitest/config';
import { minifyWGSL } from './scripts/minify-wgsl.js';

/** Shaders as text, as the build has them. */
const shaders: Plugin = {
  name: 'shaders',
  transform(code, id) {
    return id.endsWith('.wgsl')
      ? { code: `export default ${JSON.stringify(minifyWGSL(code))};`, map: null }
      : undefined;
  },
};

/** The software driver that Chromium brings along: without a GPU, WebGPU in Node runs on it. */
const drivers = ['/usr/lib/chromium', '/usr/lib64/chromium-browser', '/opt/google/chrome'];
const driver = drivers.map((folder) => `${folder}/vk_swiftshader_icd.json`).find((path) => existsSync(path));

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
      ...(driver && !process.env.VK_ICD_FILENAMES ? { VK_ICD_FILENAMES: driver } : {}),
      // Mesa's drivers complain on stderr where there is none.
      XDG_RUNTIME_DIR: process.env.XDG_RUNTIME_DIR ?? tmpdir(),
    },
    // So that the relaxed-SIMD kernels are tested on Node 20 too, which has them behind this flag.
    execArgv: ['--experimental-wasm-relaxed-simd'],
  },
});

export default config;
