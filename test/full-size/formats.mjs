/*
 * VGG16 at full size from every format: the same bits, how much memory at most, how fast the reader is.
 *
 *     python3 test/full-size/make-vgg16.py FOLDER
 *     node test/full-size/formats.mjs FOLDER
 *
 * Each file is loaded and run in a process of its own, from the sources; the kernels are those of dist/. Memory is the
 * most that the process had resident, by getrusage.
 */

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const [folder, built, task, file] = process.argv.slice(2);

if (task === 'model') await runModel();
else if (task === 'reader') await runReader();
else await runAll();

async function runModel() {
  const { Tensor, VGGNet } = await import(pathToFileURL(join(built, 'index.js')).href);
  const start = performance.now();
  const model = await VGGNet.load(join(folder, file), {
    device: 'wasm',
    inline: true,
    threads: 1,
    deterministic: true,
  });
  const loadMs = performance.now() - start;
  const logits = await model.forward(Tensor.randn([1, 3, 224, 224], { seed: 1 }));
  const bits = createHash('sha256').update(new Uint8Array(logits.data.buffer)).digest('hex').slice(0, 16);
  // Kilobytes.
  const peak = process.resourceUsage().maxRSS * 1024;
  console.log(JSON.stringify({ name: model.config.name, loadMs, bits, peak }));
}

/** Reads all values three times, from the page cache, and gives the best time; and that of reading alone. */
async function runReader() {
  const { openWeights } = await import(pathToFileURL(join(built, 'open.js')).href);
  const path = join(folder, file);
  let best = Number.POSITIVE_INFINITY;
  let raw = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 3; i++) {
    raw = Math.min(raw, await timed(() => readPlain(path)));
    best = Math.min(
      best,
      await timed(async () => {
        const source = await openWeights(path);
        let values = 0;
        for await (const { data } of source.chunks(new Set(source.entries.map((entry) => entry.name))))
          values += data.length;
        if (values !== 138_357_544) throw new Error(`${values} values`);
      }),
    );
  }
  console.log(JSON.stringify({ ms: best, rawMs: raw, peak: process.resourceUsage().maxRSS * 1024 }));
}

async function readPlain(path) {
  const handle = await open(path);
  const buffer = new Uint8Array(2 ** 20);
  while ((await handle.read(buffer, 0, buffer.length)).bytesRead > 0);
  await handle.close();
}

async function timed(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

async function runAll() {
  const { build } = await import('esbuild');
  const root = fileURLToPath(new URL('../../', import.meta.url));
  const out = mkdtempSync(join(tmpdir(), 'vggnet-formats-'));
  try {
    await build({
      entryPoints: { index: 'src/index.ts', worker: 'src/wasm/workers/worker.ts', open: 'src/weights/open.ts' },
      absWorkingDir: root,
      outdir: out,
      bundle: true,
      splitting: true,
      format: 'esm',
      external: ['sharp', 'node:*'],
      loader: { '.wgsl': 'text' },
      logLevel: 'error',
    });
    symlinkSync(join(root, 'dist/kernels'), join(out, 'kernels'));
    const rows = readdirSync(folder)
      .filter((name) => name.startsWith('vgg16'))
      .map((name) => measure(out, name));
    console.table(rows);
    const bits = new Set(rows.map((row) => row.bits));
    console.log(bits.size === 1 ? 'all logits have the same bits' : `${bits.size} different logits`);
    process.exitCode = bits.size === 1 ? 0 : 1;
  } finally {
    rmSync(out, { recursive: true });
  }
}

function measure(out, name) {
  const child = (what) => {
    const script = fileURLToPath(import.meta.url);
    return JSON.parse(execFileSync(process.execPath, [script, folder, out, what, name], { encoding: 'utf8' }));
  };
  const { size } = statSync(join(folder, name));
  const [model, reader] = [child('model'), child('reader')];
  const mb = (bytes) => Math.round(bytes / 1e6);
  return {
    file: name,
    MB: mb(size),
    'peak MB': mb(model.peak),
    'peak / file': Number((model.peak / size).toFixed(2)),
    'load ms': Math.round(model.loadMs),
    'reader GB/s': Number((size / reader.ms / 1e6).toFixed(2)),
    'plain read GB/s': Number((size / reader.rawMs / 1e6).toFixed(2)),
    'reader peak MB': mb(reader.peak),
    bits: model.bits,
  };
}
