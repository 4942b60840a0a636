import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { run } from '../support/child.js';
import { bundleTests } from './elsewhere/bundle.js';
import type { Outcome } from './elsewhere/suites.js';

/* The tests of the kernels and networks once more, on wgpu and naga: Deno, on Mesa's software driver. */

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

test('the kernels and networks in Deno', { timeout: 600_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'vggnet-deno-'));
  try {
    const bundle = join(folder, 'tests.mjs');
    await bundleTests('deno.ts', bundle);
    const deno = join(ROOT, 'node_modules/.bin/deno');
    // Its own choice of drivers, which are not Dawn's.
    const env = { VK_ICD_FILENAMES: '' };
    const { code, stdout, stderr } = await run(deno, ['run', '-A', bundle], { cwd: ROOT, timeout: 590_000, env });
    expect({ code, stderr: code === 0 ? '' : stderr }).toEqual({ code: 0, stderr: '' });
    const outcomes = JSON.parse(stdout.trim().split('\n').at(-1) as string) as Outcome[];
    expect(outcomes.filter(({ state }) => state !== 'pass')).toEqual([]);
    expect(outcomes.length).toBeGreaterThan(200);
  } finally {
    await rm(folder, { recursive: true });
  }
});
