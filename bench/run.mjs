// Sees to it that there is something to measure (packages, the built library), bundles the suite's TypeScript into
// .cache/build, so that every runtime runs the same plain JavaScript, and starts it. Nothing but Node's own is imported
// until then, as in a clean clone there is nothing else.
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, statSync, utimesSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const bench = dirname(fileURLToPath(import.meta.url));
const repository = join(bench, '..');

/** What is built, and what from. */
const PRODUCTS = [
  [
    ['dist/kernels/simd.wasm', 'dist/kernels/relaxed-simd-threads.wasm'],
    ['assembly', 'asconfig.json'],
  ],
  [
    ['dist/index.js', 'dist/worker.js'],
    ['src', 'shaders', 'package.json', 'tsconfig.json', 'tsup.config.ts'],
  ],
];
/** Of onnxruntime-node: its native libraries for CUDA are not wanted, and the script that gets them fails without a network. */
const NO_DOWNLOADS = { ONNXRUNTIME_NODE_INSTALL: 'skip', ONNXRUNTIME_NODE_INSTALL_CUDA: 'skip' };

/** When the newest file in a folder, or a file, was changed; 0 if it is not there. */
function newest(path) {
  if (!existsSync(path)) return 0;
  const stat = statSync(path);
  if (!stat.isDirectory()) return stat.mtimeMs;
  return Math.max(0, ...readdirSync(path).map((name) => newest(join(path, name))));
}

function npm(folder, ...args) {
  console.log(`npm ${args.join(' ')} (in ${folder === bench ? 'bench/' : 'the repository'})`);
  const options = { cwd: folder, stdio: 'inherit', shell: process.platform === 'win32' };
  const { status, error } = spawnSync('npm', args, { ...options, env: { ...process.env, ...NO_DOWNLOADS } });
  if (status === 0) return;
  console.error(`'npm ${args.join(' ')}' failed${error ? `: ${error.message}` : ''}`);
  process.exit(2);
}

/** npm leaves a list of what it installed; a lock file that is newer asks for something else. */
function install(folder) {
  const installed = join(folder, 'node_modules/.package-lock.json');
  if (newest(installed) >= newest(join(folder, 'package-lock.json'))) return;
  npm(folder, 'install', '--no-audit', '--no-fund');
  // Where nothing was to be done npm leaves the list as it was.
  utimesSync(installed, new Date(), new Date());
}

install(repository);
const times = (names) => names.map((name) => newest(join(repository, name)));
if (PRODUCTS.some(([built, from]) => Math.min(...times(built)) < Math.max(...times(from)))) {
  npm(repository, 'run', 'build');
}
install(bench);

const esbuild = await import('esbuild');
await esbuild.build({
  entryPoints: [join(bench, 'src/cli.ts'), join(bench, 'src/worker.ts')],
  outdir: join(bench, '.cache/build'),
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
const { createContext, main } = await import('./.cache/build/cli.mjs');
process.exitCode = await main(process.argv.slice(2), createContext(bench));
