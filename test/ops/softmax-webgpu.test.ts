import { afterAll, beforeAll, describe, test } from 'vitest';
import * as reference from '../../src/reference/kernels.js';
import { Tensor } from '../../src/tensor.js';
import { padded } from '../../src/webgpu/ops/dispatch.js';
import { softmax } from '../../src/webgpu/ops/softmax.js';
import { expectClose } from '../support/close.js';
import { GPUKernels } from '../support/gpu-kernels.js';
import { enter, leave, random } from '../support/gpu-values.js';

/* The kernel of shaders/softmax.wgsl. */

let gpu: GPUKernels;
beforeAll(async () => {
  gpu = await GPUKernels.create();
});
afterAll(() => gpu?.destroy());

const ROWS: readonly (readonly [number, number])[] = [
  [1, 1],
  [2, 5],
  [3, 1000],
  [5, 257],
];

describe('softmax kernel on webgpu', () => {
  test.each(ROWS)('(%i, %i)', async (n, features) => {
    const x = random('softmax', [n, features]);
    for (let i = 0; i < x.data.length; i++) x.data[i] = (x.data[i] as number) * 60 - 1000;
    await compare(x);
  });

  test('what is not a number', async () => {
    const rows = [
      [1, NaN, 2, 3, 4],
      [1, -NaN, -Infinity, 3, 4],
      [Infinity, 1, 2, 3, 4],
      [-Infinity, 1, 2, -Infinity, 4],
      [-Infinity, -Infinity, -Infinity, -Infinity, -Infinity],
      [3e38, -3e38, 0, 3e38, 1],
      [-3.4e38, -3.4e38, -3.4e38, -3.4e38, -3.4e38],
    ];
    await compare(new Tensor(Float32Array.from(rows.flat()), [rows.length, 5]));
  });

  async function compare(x: Tensor): Promise<void> {
    const [n = 0, features = 0] = x.shape;
    const output = gpu.empty(n * padded(features) * 4);
    const a = { n, c: features, h: 1, w: 1 };
    await gpu.run(softmax({ n, features }, { input: await enter(gpu, x), output }));
    // exp is good to 3 + 2·|x| units of 2^-24 in WGSL, and |x| to 88 before it is 0.
    const tolerance = { atol: 1e-9, rtol: 1.2e-5, what: `softmax (${n}, ${features})` };
    expectClose(await leave(gpu, a, output), reference.softmax(x).data, tolerance);
  }
});
