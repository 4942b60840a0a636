import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { IMAGE_PARAMS } from '../../src/webgpu/image.js';
import { BATCHNORM2D_PARAMS } from '../../src/webgpu/ops/batchnorm2d.js';
import { CONV2D_REPAIR_PARAMS } from '../../src/webgpu/ops/conv2d-repair.js';
import { uniformWords } from '../../src/webgpu/ops/dispatch.js';
import { ELEMENTWISE_PARAMS } from '../../src/webgpu/ops/elementwise.js';
import { GEMM_PARAMS } from '../../src/webgpu/ops/gemm.js';
import { LAYOUT_PARAMS } from '../../src/webgpu/ops/layout.js';
import { LINEAR_PARAMS, LINEAR_SUM_PARAMS } from '../../src/webgpu/ops/linear.js';
import { PACK_PARAMS } from '../../src/webgpu/ops/pack.js';
import { POOL_PARAMS } from '../../src/webgpu/ops/pool.js';
import { SOFTMAX_PARAMS } from '../../src/webgpu/ops/softmax.js';
import { WINOGRAD_PARAMS } from '../../src/webgpu/ops/winograd.js';

/* The uniforms that TypeScript writes by field name are those that the shaders declare. */

/** By shader and struct. */
const FIELDS: Readonly<Record<string, string>> = {
  'batchnorm2d Params': BATCHNORM2D_PARAMS,
  'conv2d-repair Params': CONV2D_REPAIR_PARAMS,
  'elementwise Params': ELEMENTWISE_PARAMS,
  'gemm Params': GEMM_PARAMS,
  'image Params': IMAGE_PARAMS,
  'layout Params': LAYOUT_PARAMS,
  'linear Params': LINEAR_PARAMS,
  'linear Sum': LINEAR_SUM_PARAMS,
  'linear-subgroups Params': LINEAR_PARAMS,
  'pack Params': PACK_PARAMS,
  'pool Params': POOL_PARAMS,
  'softmax Params': SOFTMAX_PARAMS,
  'winograd Params': WINOGRAD_PARAMS,
};

/** The fields of every struct that a shader has a uniform of, by shader and struct. */
function declaredFields(): Record<string, string[]> {
  const folder = new URL('../../shaders/', import.meta.url);
  const declared: Record<string, string[]> = {};
  for (const file of readdirSync(folder)) {
    const text = readFileSync(new URL(file, folder), 'utf8').replace(/\/\*[\s\S]*?\*\//g, '');
    for (const [, struct] of text.matchAll(/var<uniform>\s+\w+:\s*(\w+)/g)) {
      const body = new RegExp(`struct ${struct} \\{([^}]*)\\}`).exec(text)?.[1] ?? '';
      declared[`${file.replace('.wgsl', '')} ${struct}`] = body
        .split(',')
        .map((field) => field.trim())
        .filter(Boolean);
    }
  }
  return declared;
}

describe('the fields of the uniforms', () => {
  const declared = declaredFields();

  test('every uniform of every shader is listed', () => {
    expect(Object.keys(FIELDS).sort()).toEqual(Object.keys(declared).sort());
  });

  test.each(Object.entries(FIELDS))('%s', (name, fields) => {
    expect(
      fields.split(' ').map((field) => (field.includes(':') ? field.replace(':', ': ') : `${field}: u32`)),
    ).toEqual(declared[name]);
  });
});

describe('uniformWords', () => {
  test('writes each field where the list has it, floats by their bits, and 0 for the others', () => {
    const words = uniformWords('a b scale:f32 c', { c: true, scale: -1.5, a: 2 ** 32 - 1 });
    expect([...words]).toEqual([2 ** 32 - 1, 0, 0xbfc00000, 1]);
  });

  test.each([-1, 2 ** 32, Number.NaN])('refuses %d, which an index cannot be', (value) => {
    const message = expect.stringContaining('too large for 32-bit indices');
    expect(() => uniformWords('a', { a: value })).toThrow(expect.objectContaining({ code: 'OUT_OF_MEMORY', message }));
  });
});
