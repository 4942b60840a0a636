// The table of each layer's error by algorithm, for docs/measurements.md: `node bench/layer-errors.mjs` after a build.
import { rm } from 'node:fs/promises';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));
const bundle = at('.cache/build/layer-errors.mjs');
await build({
  entryPoints: [at('src/kernels/layer-errors.ts')],
  outfile: bundle,
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'es2022',
  logLevel: 'warning',
});
const { printLayerErrors } = await import(pathToFileURL(bundle));
await printLayerErrors(new URL('../dist/kernels/', import.meta.url));
await rm(bundle);
