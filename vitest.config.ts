import { fileURLToPath } from 'node:url';
import { defineConfig, type ViteUserConfig } from 'vitest/config';

const config: ViteUserConfig = defineConfig({
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
    // So that the relaxed-SIMD kernels are tested on Node 20 too, which has them behind this flag.
    execArgv: ['--experimental-wasm-relaxed-simd'],
  },
});

export default config;
