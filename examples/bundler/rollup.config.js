// npx rollup -c: one plugin finds the package, the other copies the files that it loads. index.html is copied beside
// dist/main.js by hand.

import { nodeResolve } from '@rollup/plugin-node-resolve';
import { importMetaAssets } from '@web/rollup-plugin-import-meta-assets';

// biome-ignore lint/style/noDefaultExport: Rollup wants it
export default {
  input: 'main.js',
  output: { dir: 'dist', format: 'es' },
  plugins: [nodeResolve({ browser: true }), importMetaAssets()],
};
