import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, test } from 'vitest';
import { minifiedShader } from '../../scripts/minify-wgsl.js';
import type { PipelineSpec } from '../../src/webgpu/kernel.js';
import { GEMM_TILES } from '../../src/webgpu/ops/gemm.js';
import { GPUKernels } from '../support/gpu-kernels.js';

/* Every entry point of every shader compiles as it is shipped, with the constants that src/webgpu/ops/ sets, in both compilers. */

const FOLDER = new URL('../../shaders/', import.meta.url);
const NAMES = readdirSync(FOLDER).map((file) => file.replace(/\.wgsl$/, ''));
const source = (name: string): string => readFileSync(new URL(`${name}.wgsl`, FOLDER), 'utf8');
/** As the build has it. */
const text = (name: string): string => minifiedShader(new URL(`${name}.wgsl`, FOLDER));

/** Sets of constants; an entry point that is not here has none. */
const CONSTANTS: Readonly<Record<string, readonly Record<string, number>[]>> = {
  'gemm gemm': [
    { ...GEMM_TILES[0].constants, KIND: 0, F16: 0 },
    { ...GEMM_TILES[1].constants, KIND: 2, F16: 0 },
    { ...GEMM_TILES[2].constants, KIND: 1, F16: 0 },
    { ...GEMM_TILES[2].constants, KIND: 0, F16: 1 },
    { ...GEMM_TILES[2].constants, KIND: 2, F16: 1 },
  ],
  'linear linear': [0, 1].flatMap((F16) => [1, 4].map((BATCH) => ({ F16, BATCH }))),
  'linear-subgroups linear': [0, 1].flatMap((F16) => [1, 4].map((BATCH) => ({ F16, BATCH }))),
  'winograd input': [{ TILE: 2 }, { TILE: 4 }],
  'winograd output': [{ TILE: 2 }, { TILE: 4 }],
  'winograd weights': [2, 4].flatMap((TILE) => [0, 1].map((F16) => ({ TILE, F16 }))),
  'batchnorm2d sums': [{ SQUARES: 0 }, { SQUARES: 1 }],
  'batchnorm2d statistics': [{ SQUARES: 0 }, { SQUARES: 1 }],
  ...Object.fromEntries(
    ['pack', 'unpack', 'packF16', 'unpackF16'].map((e) => [`pack ${e}`, [{ CONV: 0 }, { CONV: 1 }]]),
  ),
};

const PIPELINES: readonly PipelineSpec[] = NAMES.flatMap((shader) =>
  [...source(shader).matchAll(/@compute\s+@workgroup_size\([^)]*\)\s*fn\s+(\w+)/g)].flatMap(([, name]) => {
    const entryPoint = name as string;
    return (CONSTANTS[`${shader} ${entryPoint}`] ?? [{}]).map((constants) => ({ shader, entryPoint, constants }));
  }),
);

test('the list has every entry point, and nothing else', () => {
  const all = NAMES.flatMap((name) => source(name).match(/@compute/g)?.length ?? 0).reduce((a, b) => a + b);
  const listed = new Set(PIPELINES.map(({ shader, entryPoint }) => `${shader} ${entryPoint}`));
  expect(listed.size).toBe(all);
  expect(Object.keys(CONSTANTS).filter((key) => !listed.has(key))).toEqual([]);
});

test('Tint compiles them', async () => {
  const gpu = await GPUKernels.create();
  try {
    const compiled = await Promise.allSettled(PIPELINES.map((spec) => gpu.pipeline(spec)));
    const failed = compiled.flatMap((result, i) =>
      result.status === 'rejected' ? [`${JSON.stringify(PIPELINES[i])}: ${result.reason}`] : [],
    );
    expect(failed).toEqual([]);
  } finally {
    gpu.destroy();
  }
});

describe('naga', () => {
  const SUBGROUPS = 'linear-subgroups';
  const pipelines = PIPELINES.filter(({ shader }) => shader !== SUBGROUPS);
  let compiled: {
    readonly adapter: string;
    readonly modules: Readonly<Record<string, string | null>>;
    readonly pipelines: readonly (string | null)[];
  };

  beforeAll(() => {
    const modules = Object.fromEntries(NAMES.map((name) => [name, text(name)]));
    // naga does not know the directives yet. The rest it should take, but for the feature that its adapter lacks.
    modules[SUBGROUPS] = text(SUBGROUPS).replace(/\b(enable|diagnostic)\b[^;]*;/g, '');
    const deno = fileURLToPath(new URL('../../node_modules/.bin/deno', import.meta.url));
    const script = fileURLToPath(new URL('../support/compile-shaders.deno.js', import.meta.url));
    const { VK_ICD_FILENAMES: _, ...env } = process.env;
    const { status, stdout, stderr } = spawnSync(deno, ['run', '--no-config', '--allow-all', script], {
      input: JSON.stringify({ modules, pipelines }),
      encoding: 'utf8',
      timeout: 50_000,
      env,
    });
    if (status !== 0) throw new Error(`Deno ended with ${status}: ${stderr}`);
    compiled = JSON.parse(stdout);
  });

  test.each(NAMES.filter((name) => name !== SUBGROUPS))('takes %s.wgsl', (name) => {
    expect(compiled.modules[name]).toBeNull();
  });

  test('takes linear-subgroups.wgsl up to the feature', () => {
    expect(compiled.modules[SUBGROUPS] ?? 'requires capability Capabilities(SUBGROUP)').toContain(
      'requires capability Capabilities(SUBGROUP)',
    );
  });

  test('compiles every entry point', () => {
    const failed = compiled.pipelines.flatMap((message, i) =>
      message === null ? [] : [`${JSON.stringify(pipelines[i])}: ${message}`],
    );
    expect(compiled.pipelines).toHaveLength(pipelines.length);
    expect(failed).toEqual([]);
  });
});
