// Bundles the suite's TypeScript into .cache/build, so that every runtime runs the same plain JavaScript, and starts it.
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const at = (path) => fileURLToPath(new URL(path, import.meta.url));

if (!existsSync(at('../dist/index.js'))) {
  console.error('vggnet is not built: run `npm install && npm run build` in the folder above first');
  process.exit(2);
}
let esbuild;
try {
  esbuild = await import('esbuild');
} catch {
  console.error("The suite's packages are not installed: run `npm ci` in bench/ first");
  process.exit(2);
}
await esbuild.build({
  entryPoints: [at('src/cli.ts'), at('src/worker.ts')],
  outdir: at('.cache/build'),
  outExtension: { '.js': '.mjs' },
  bundle: true,
  splitting: true,
  format: 'esm',
  platform: 'node',
  target: 'es2022',
  packages: 'external',
  sourcemap: true,
  logLevel: 'warning',
});
const { main } = await import('./.cache/build/cli.mjs');
process.exitCode = await main(process.argv.slice(2), at('.'));
