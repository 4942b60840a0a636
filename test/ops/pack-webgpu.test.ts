import { afterAll, beforeAll, describe, test } from 'vitest';
import type { Layer } from '../../src/program/layers.js';
import { packedLayout, unpackPiece } from '../../src/webgpu/ops/pack.js';
import { GPUKernels } from '../support/gpu-kernels.js';
import { conv, dense, half, norm, pack, random, same } from '../support/gpu-values.js';

/* The kernels of shaders/pack.wgsl: parameters that are packed come back. */

let gpu: GPUKernels;
beforeAll(async () => {
  gpu = await GPUKernels.create();
});
afterAll(() => gpu?.destroy());

describe('pack kernels on webgpu', () => {
  const layers = [
    [conv(3, 5), 'weight', 3 * 5 * 9],
    [conv(17, 6), 'weight', 17 * 6 * 9],
    [conv(4, 7), 'bias', 7],
    [dense(37, 11), 'weight', 37 * 11],
    [dense(8, 3), 'weight', 24],
    [dense(8, 3), 'bias', 3],
    [norm(9), 'running_var', 9],
  ] as const;
  test.each(layers)('%o %s comes back', async (layer, key, count) => {
    const values = random('pack', [count]).data.map((value, i) => value * 2 ** ((i % 40) - 26));
    for (const precision of ['fp32', 'fp16'] as const) {
      const stored = { ...layer, precision } as Layer;
      const shards = await pack(gpu, stored, key, values);
      const layout = packedLayout(stored, key, gpu.caps);
      const output = gpu.empty(count * 4);
      const first = Math.floor(count / 3);
      await gpu.run(unpackPiece(layout, { offset: 0, count: first, values: output }, shards));
      const head = (await gpu.download(output)).subarray(0, first);
      await gpu.run(unpackPiece(layout, { offset: first, count: count - first, values: output }, shards));
      const tail = (await gpu.download(output)).subarray(0, count - first);
      const kept = layout.f16 ? values.map(half) : values;
      same(Float32Array.of(...head, ...tail), kept, `${key}, ${precision}`);
    }
  });

  test('float16 rounds to nearest, ties to even', async () => {
    const values = Float32Array.of(
      ...[1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -11 + 2 ** -23, 65504, 65519.99, 65520, 1e30, -1e30],
      ...[2 ** -24, 2 ** -25, 2 ** -25 * 1.0001, 1.5 * 2 ** -24, 2.5 * 2 ** -24, 2 ** -14, 2 ** -14 - 2 ** -25, 1e-30],
      ...[0, -0, -1, Infinity, -Infinity, NaN, 1 / 3, -0.1],
    );
    const layer = { ...dense(24, 1), precision: 'fp16' } as Layer;
    const shards = await pack(gpu, layer, 'weight', values);
    const output = gpu.empty(values.byteLength);
    const layout = packedLayout(layer, 'weight', gpu.caps);
    await gpu.run(unpackPiece(layout, { offset: 0, count: values.length, values: output }, shards));
    same(await gpu.download(output), values.map(half), 'float16');
  });
});
