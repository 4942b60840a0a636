import { chmod, mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const FOLDER = fileURLToPath(new URL('../../src/hub/', import.meta.url));

/** `fetchWeights`, `listCache` and `clearCache` as one module for other processes and pages, in a folder of its own. */
export async function bundleHub(): Promise<{ folder: string; file: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'vggnet-hub-'));
  // A process of another user reads it too.
  await chmod(folder, 0o755);
  const file = join(folder, 'hub.mjs');
  await build({
    stdin: { contents: "export * from './weights.js'; export * from './cache.js';", resolveDir: FOLDER },
    outfile: file,
    bundle: true,
    format: 'esm',
    platform: 'neutral',
    target: 'es2022',
  });
  return { folder, file };
}
