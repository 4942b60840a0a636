/*
 * Reads files whose structure was changed, and reports each that ends the process, takes over 2 s or over 300 MB, or
 * gives an error that is not typed.
 *
 *   npm run fuzz -- [--cases 2000] [--seed 1] [--format torch-pickle] [--node PATH] [--out FILE]
 *
 * A case is made of its format, seed and number alone: `--first N --cases 1` runs it again.
 */
import { execFileSync, fork } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { build } from 'esbuild';

const root = fileURLToPath(new URL('..', import.meta.url));
const FORMATS = ['torch-pickle', 'torch-legacy', 'torch-zip', 'npz', 'onnx', 'safetensors'];
const MAX_MIB = 300;
/** Without a word, on a machine that does other things too; what takes the processor over 2 s is reported by itself. */
const HANG_MS = 120_000;
/** Cases of one process: what it keeps of one must not hide in another's memory. */
const PART = 2000;

const { values: options } = parseArgs({
  options: {
    cases: { type: 'string', default: '2000' },
    first: { type: 'string', default: '0' },
    seed: { type: 'string', default: '1' },
    format: { type: 'string' },
    node: { type: 'string', default: process.execPath },
    out: { type: 'string' },
  },
});
const formats = options.format ? [options.format] : FORMATS;
const perFormat = Math.ceil(Number(options.cases) / formats.length);

const folder = mkdtempSync(join(tmpdir(), 'vggnet-fuzz-'));
const worker = join(folder, 'worker.mjs');
await build({
  entryPoints: [join(root, 'test/weights/fuzz/worker.ts')],
  outfile: worker,
  bundle: true,
  format: 'esm',
  platform: 'node',
  target: 'node20',
  loader: { '.wgsl': 'text' },
  external: ['sharp', 'webgpu'],
  logLevel: 'error',
});

const faults = [];
const outcomes = {};
let peak = 0;
let done = 0;
const started = performance.now();

/** Runs cases of one format in a process; goes on after one that ended it. */
function runPart(format, first, count) {
  return new Promise((resolve) => {
    const child = fork(worker, [root, format, options.seed, String(first), String(count)], {
      execPath: options.node,
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
    });
    let last = first;
    let finished = false;
    let errors = '';
    child.stderr.on('data', (text) => {
      errors = (errors + text).slice(-2000);
    });
    const report = (what, detail) => faults.push({ format, seed: Number(options.seed), what, ...detail });
    let hung;
    const watch = () => {
      clearTimeout(hung);
      hung = setTimeout(() => {
        report('hang', { from: last });
        child.kill('SIGKILL');
      }, HANG_MS);
    };
    watch();
    child.on('message', (message) => {
      watch();
      if (message.index !== undefined) last = message.index;
      if (message.untyped) report('untyped error', { index: message.index, error: message.untyped.slice(0, 1000) });
      if (message.unhandled) report('unhandled rejection', { near: last, error: message.unhandled.slice(0, 1000) });
      if (message.slow) report('over 2 s', { index: message.index, ms: message.slow });
      if (!message.done) return;
      finished = true;
      peak = Math.max(peak, message.peak);
      if (message.peak > MAX_MIB) report('memory', { from: first, count, mib: message.peak });
      for (const [name, number] of Object.entries(message.outcomes)) outcomes[name] = (outcomes[name] ?? 0) + number;
    });
    child.on('exit', (code, signal) => {
      clearTimeout(hung);
      if (!finished && signal !== 'SIGKILL') report('crash', { from: last, code, signal, error: errors });
      done += count;
      resolve();
    });
  });
}

const parts = formats.flatMap((format) =>
  Array.from({ length: Math.ceil(perFormat / PART) }, (_, i) => [
    format,
    Number(options.first) + i * PART,
    Math.min(PART, perFormat - i * PART),
  ]),
);
// All formats in turn, so that a run that is stopped has some of each.
parts.sort((a, b) => a[1] - b[1]);
const total = parts.reduce((sum, [, , count]) => sum + count, 0);
const node = execFileSync(options.node, ['--version'], { encoding: 'utf8' }).trim();
const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

/** What came of the cases so far. */
function result() {
  const seconds = Math.round((performance.now() - started) / 1000);
  const seed = Number(options.seed);
  return { cases: done, seed, formats, node, version, seconds, peakMiB: peak, outcomes, faults: faults.slice(0, 50) };
}

await Promise.all(
  Array.from({ length: Math.min(2, cpus().length) }, async () => {
    for (let part = parts.shift(); part; part = parts.shift()) {
      await runPart(...part);
      console.log(`${done} of ${total} cases, ${faults.length} faults, peak ${peak} MiB`);
      // A long run that is stopped has its result too.
      if (options.out) writeFileSync(options.out, `${JSON.stringify(result(), undefined, 2)}\n`);
    }
  }),
);
rmSync(folder, { recursive: true });
console.log(JSON.stringify(result(), undefined, 2));
process.exitCode = faults.length > 0 ? 1 : 0;
