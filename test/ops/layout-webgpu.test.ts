import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { padded } from '../../src/webgpu/ops/dispatch.js';
import { flatten } from '../../src/webgpu/ops/layout.js';
import { GPUKernels } from '../support/gpu-kernels.js';
import { activation, bytesOf, enter, leave, random, SHAPES, same } from '../support/gpu-values.js';

/* The kernels of shaders/layout.wgsl. */

let gpu: GPUKernels;
beforeAll(async () => {
  gpu = await GPUKernels.create();
});
afterAll(() => gpu?.destroy());

describe('layout kernels on webgpu', () => {
  test.each(SHAPES)('(%i, %i, %i, %i) there and back', async (...shape) => {
    const x = random('layout', shape);
    const a = activation(x);
    const stored = await enter(gpu, x);
    same(await leave(gpu, a, stored), x.data, 'toNCHW(toNHWC(x))');
    const values = await gpu.download({ ...stored, size: bytesOf(a) });
    const padding = values.filter((_, i) => i % padded(a.c) >= a.c);
    expect(padding.every((value) => Object.is(value, 0))).toBe(true);
    const row = a.c * a.h * a.w;
    const rows = gpu.empty(a.n * padded(row) * 4);
    await gpu.run(flatten(a, { input: stored, output: rows }));
    const flat = await gpu.download({ ...rows, size: a.n * padded(row) * 4 });
    for (let n = 0; n < a.n; n++) {
      const start = n * padded(row);
      same(flat.subarray(start, start + row), x.data.subarray(n * row, (n + 1) * row), 'flatten');
      expect(flat.subarray(start + row, start + padded(row)).every((value) => value === 0)).toBe(true);
    }
  });
});
