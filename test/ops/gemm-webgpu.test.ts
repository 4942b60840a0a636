import { afterAll, beforeAll, describe, test } from 'vitest';
import * as reference from '../../src/reference/kernels.js';
import { Tensor } from '../../src/tensor.js';
import { GEMM_TILES, gemm } from '../../src/webgpu/ops/gemm.js';
import { expectClose } from '../support/close.js';
import { GPUKernels } from '../support/gpu-kernels.js';
import { dense, random } from '../support/gpu-values.js';

/* The kernel of shaders/gemm.wgsl with each of its tiles. */

let gpu: GPUKernels;
beforeAll(async () => {
  gpu = await GPUKernels.create();
});
afterAll(() => gpu?.destroy());

describe('gemm kernel on webgpu', () => {
  test.each(GEMM_TILES.map((tile) => [tile.bm, tile.bn, tile] as const))('%i × %i tiles', async (bm, bn, tile) => {
    for (const [m, n4, k4] of [
      [1, 1, 1],
      [bm + 1, bn / 4 + 1, 5],
      [bm * 2 - 3, bn / 4, 9],
    ] as const) {
      const a = random('a', [2 * m, k4 * 4]);
      const b = random('b', [2 * k4 * 4, n4 * 4]);
      const turned = Float32Array.from(b.data, (_, i) => {
        const [z, rest] = [Math.floor(i / (k4 * n4 * 16)), i % (k4 * n4 * 16)];
        return b.data[(z * k4 * 4 + (rest % (k4 * 4))) * n4 * 4 + Math.floor(rest / (k4 * 4))] as number;
      });
      const expected = new Float32Array(2 * m * n4 * 4);
      for (let z = 0; z < 2; z++) {
        const part = { weight: turned.slice(z * k4 * n4 * 16, (z + 1) * k4 * n4 * 16), bias: new Float32Array(n4 * 4) };
        const x = new Tensor(a.data.slice(z * m * k4 * 4, (z + 1) * m * k4 * 4), [m, k4 * 4]);
        expected.set(reference.linear(x, dense(k4 * 4, n4 * 4), part).data, z * m * n4 * 4);
      }
      // The largest tile's second kind would cost a software adapter more to compile than it can show.
      for (const kind of tile === GEMM_TILES[0] ? (['plain'] as const) : (['plain', 'linear'] as const)) {
        const y = gpu.empty(2 * m * n4 * 16);
        const factor = gpu.upload(kind === 'plain' ? b.data : turned);
        const dispatch = gemm({
          ...{ label: kind, kind, tile, batch: 2, f16: false, m, n4, k4 },
          ...{ aStride: m * k4, bStride: k4 * 4 * n4, yStride: m * n4, rows: n4 * 4, columns: n4 * 4, yPitch: n4 },
          views: { a: gpu.upload(a.data), b: factor, bias: factor, scale: factor, y },
        });
        await gpu.run([dispatch]);
        const what = `${kind} ${m} × ${n4 * 4} × ${k4 * 4}`;
        expectClose(await gpu.download(y), expected, { atol: 1e-5, rtol: 1e-5, what });
      }
    }
  });
});
