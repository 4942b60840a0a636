// node esbuild.mjs: bundles the page into dist/. esbuild does not follow `new URL(…, import.meta.url)`, so the files that
// vggnet loads are copied to where it looks for them: beside the bundle, and the embedded model in ../models.
// `import … from 'vggnet/inline'` needs no copies, but brings all kernels along in the bundle.

import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import { build } from 'esbuild';

await build({
  entryPoints: ['main.js'],
  bundle: true,
  minify: true,
  format: 'esm',
  splitting: true,
  target: 'es2022',
  outdir: 'dist/js',
});

const vggnet = new URL('../', import.meta.resolve('vggnet'));
await mkdir('dist/models', { recursive: true });
await cp(new URL('dist/kernels/', vggnet), 'dist/js/kernels', { recursive: true });
await cp(new URL('dist/worker.js', vggnet), 'dist/js/worker.js');
await cp(new URL('dist/worker-training.js', vggnet), 'dist/js/worker-training.js');
await cp(new URL('models/glyphs.safetensors', vggnet), 'dist/models/glyphs.safetensors');
await writeFile('dist/index.html', (await readFile('index.html', 'utf8')).replace('./main.js', './js/main.js'));
