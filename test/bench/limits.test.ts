import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { buildLimits } from '../../bench/src/limits.js';
import { ROOT } from '../support/project.js';

test("the bare micro-kernel and the bare read compile against the library's kernels", {
  timeout: 120_000,
}, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'vggnet-limits-'));
  try {
    await buildLimits(ROOT, folder);
    expect((await readdir(folder)).sort()).toEqual(['limits-relaxed-simd.wasm', 'limits-simd.wasm']);
  } finally {
    await rm(folder, { recursive: true });
  }
});
