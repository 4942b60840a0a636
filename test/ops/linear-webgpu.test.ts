import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as reference from '../../src/reference/kernels.js';
import { padded } from '../../src/webgpu/ops/dispatch.js';
import { linear, linearScratchBytes } from '../../src/webgpu/ops/linear.js';
import { packedLayout } from '../../src/webgpu/ops/pack.js';
import { expectClose } from '../support/close.js';
import { GPUKernels } from '../support/gpu-kernels.js';
import { dense, enter, half, leave, pack, random, vector, weights } from '../support/gpu-values.js';

/* The kernels of shaders/linear.wgsl, linear-subgroups.wgsl and gemm.wgsl. */

let gpu: GPUKernels;
let plain: GPUKernels;
beforeAll(async () => {
  gpu = await GPUKernels.create();
  plain = await GPUKernels.create({ subgroups: false });
});
afterAll(() => {
  gpu?.destroy();
  plain?.destroy();
});

describe.each([
  ['with subgroups', () => gpu],
  ['without subgroups', () => plain],
] as const)('linear kernels on webgpu, %s', (_, choose) => {
  test('the adapter has subgroups', () => {
    expect(gpu.caps.subgroups).toBe(true);
    expect(plain.caps.subgroups).toBe(false);
  });

  // Batches on both sides of what goes by the matrix–vector form, and of the rows that it takes at once.
  test.each([
    [1, 1, 1],
    [1, 37, 11],
    [1, 1024, 10],
    [1, 515, 130],
    [2, 9, 3],
    [4, 260, 7],
    [5, 41, 66],
    [8, 12, 4],
    [9, 40, 21],
    [33, 1030, 45],
  ])('(%i, %i) → %i', async (n, k, m) => {
    await compare(choose(), n, k, m, {});
  });

  test.each([1, 3, 40])('what is not a number, %i rows', async (n) => {
    await compare(choose(), n, 600, 7, { strange: true });
  });

  test.each([
    [1, 40, 30],
    [3, 24, 18],
    [12, 36, 27],
  ])('(%i, %i) → %i in shards, small limits', async (n, k, m) => {
    await compare(choose(), n, k, m, { mostRows: 9 });
  });
});

async function compare(
  on: GPUKernels,
  n: number,
  k: number,
  m: number,
  { mostRows, strange = false }: { mostRows?: number; strange?: boolean },
): Promise<void> {
  const layer = dense(k, m);
  const x = random('x', [n, k]);
  if (strange) x.data.set([NaN, 1, 2, 3, Infinity], Math.floor(n / 2) * k);
  if (strange) x.data[(n - 1) * k + 100] = -Infinity;
  const weight = weights('w', [m, k], k).data;
  const bias = random('b', [m]).data;
  const { maxBufferSize, maxStorageBufferBindingSize } = on.caps.limits;
  for (const precision of ['fp32', 'fp16'] as const) {
    const stored = { ...layer, precision };
    const rowBytes = precision === 'fp16' ? Math.ceil(k / 8) * 16 : padded(k) * 4;
    const limits = {
      maxBufferSize,
      maxStorageBufferBindingSize: mostRows ? mostRows * rowBytes : maxStorageBufferBindingSize,
    };
    const caps = { ...on.caps, limits: limits as GPUSupportedLimits };
    for (const relu of [false, true]) {
      const layout = packedLayout(stored, 'weight', caps);
      expect(layout.shards.length > 1).toBe(mostRows !== undefined);
      const shards = await pack(on, stored, 'weight', weight, caps);
      const input = await enter(on, x);
      const output = on.empty(n * padded(m) * 4);
      for (const [i, { from, to }] of layout.shards.entries()) {
        const shape = { n, inFeatures: k, outFeatures: m, rows: [from, to], f16: layout.f16 } as const;
        const bytes = linearScratchBytes(shape);
        const scratch = bytes > 0 ? on.empty(bytes) : undefined;
        const weightView = shards[i] as NonNullable<(typeof shards)[0]>;
        const views = { input, weight: weightView, bias: vector(on, bias), output, scratch };
        await on.run(linear(shape, views, { relu }, caps));
      }
      const kept = layout.f16 ? weight.map(half) : weight;
      let expected = reference.linear(x, layer, { weight: kept, bias });
      if (relu) expected = reference.relu(expected);
      const what = `linear (${n}, ${k}) → ${m}, ${precision}`;
      const shape = [n, m];
      const actual = await leave(on, { n, c: m, h: 1, w: 1 }, output);
      expectClose(actual, expected.data, { atol: 3e-6, rtol: 1e-5, what, shape });
      const whole = await on.download({ ...output, size: n * padded(m) * 4 });
      expect(whole.every((value, j) => j % padded(m) < m || value === 0)).toBe(true);
    }
  }
}
