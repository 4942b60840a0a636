import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as reference from '../../src/reference/kernels.js';
import { padded } from '../../src/webgpu/ops/dispatch.js';
import { adaptiveAvgPool2d, maxPool2d } from '../../src/webgpu/ops/pool.js';
import { expectClose } from '../support/close.js';
import { GPUKernels } from '../support/gpu-kernels.js';
import { activation, bytesOf, enter, leave, random, SHAPES, special } from '../support/gpu-values.js';

/* The kernels of shaders/pool.wgsl. */

let gpu: GPUKernels;
beforeAll(async () => {
  gpu = await GPUKernels.create();
});
afterAll(() => gpu?.destroy());

describe('pool kernels on webgpu', () => {
  test.each([...SHAPES.filter(([, , h]) => h > 1), [2, 3, 2, 2] as const])(
    'maxPool2d (%i, %i, %i, %i)',
    async (...shape) => {
      const x = special('pool', shape);
      const a = activation(x);
      const out = { ...a, h: a.h >> 1, w: a.w >> 1 };
      const output = gpu.empty(bytesOf(out));
      await gpu.run(maxPool2d(a, { input: await enter(gpu, x), output }));
      // A GPU may take values under 2^-126 for 0, and so for equal.
      const tolerance = { atol: 2 ** -126, rtol: 0, what: 'maxPool2d' };
      expectClose(await leave(gpu, out, output), reference.maxPool2d(x).data, tolerance);
    },
  );

  test.each([...SHAPES, [1, 2, 23, 40] as const])('adaptiveAvgPool2d (%i, %i, %i, %i)', async (...shape) => {
    const x = random('average', shape);
    const a = activation(x);
    const input = await enter(gpu, x);
    for (const outputSize of [1, 3, 7]) {
      const row = a.c * outputSize ** 2;
      const output = gpu.empty(a.n * padded(row) * 4);
      await gpu.run(adaptiveAvgPool2d(a, outputSize, { input, output }));
      const layer = { op: 'adaptiveAvgPool2d', name: '', path: '', outputSize } as const;
      const expected = reference.adaptiveAvgPool2d(x, layer).data;
      const rows = { n: a.n, c: row, h: 1, w: 1 };
      const what = `adaptiveAvgPool2d ${outputSize}`;
      expectClose(await leave(gpu, rows, output), expected, { atol: 1e-6, rtol: 1e-6, what });
      const stored = await gpu.download({ ...output, size: a.n * padded(row) * 4 });
      expect(stored.every((value, i) => i % padded(row) < row || value === 0)).toBe(true);
    }
  });

  test('a mean over a whole image rounds little', async () => {
    const x = random('large', [1, 4, 224, 224]);
    for (let i = 0; i < x.data.length; i++) x.data[i] = (x.data[i] as number) + 100;
    const output = gpu.empty(16);
    await gpu.run(adaptiveAvgPool2d(activation(x), 1, { input: await enter(gpu, x), output }));
    const layer = { op: 'adaptiveAvgPool2d', name: '', path: '', outputSize: 1 } as const;
    // 448 additions one after the other, each off by up to 2^-25 of the sum.
    const tolerance = { atol: 0, rtol: 1.4e-5, what: 'adaptiveAvgPool2d of 224 × 224' };
    expectClose(await gpu.download(output), reference.adaptiveAvgPool2d(x, layer).data, tolerance);
  });
});
