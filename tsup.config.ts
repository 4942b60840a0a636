import { defineConfig } from 'tsup';

type Config = ReturnType<typeof defineConfig>;

// The kernels are built by asc, into dist/kernels (asconfig.json).
const config: Config = defineConfig({
  entry: { index: 'src/index.ts', worker: 'src/wasm/worker.ts', cli: 'src/cli/main.ts' },
  format: 'esm',
  target: 'es2022',
  platform: 'neutral',
  dts: { entry: { index: 'src/index.ts' } },
  splitting: true,
  sourcemap: true,
  external: ['sharp', /^node:/],
});

export default config;
