import { afterAll, beforeAll, describe, test } from 'vitest';
import * as reference from '../../src/reference/kernels.js';
import { dropout, relu } from '../../src/webgpu/ops/elementwise.js';
import { GPUKernels } from '../support/gpu-kernels.js';
import { activation, bytesOf, enter, leave, random, SHAPES, same, special } from '../support/gpu-values.js';

/* The kernels of shaders/elementwise.wgsl, to the bit. */

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

describe('elementwise kernels on webgpu', () => {
  test.each(SHAPES)('relu (%i, %i, %i, %i)', async (...shape) => {
    const x = special('relu', shape);
    const a = activation(x);
    const output = gpu.empty(bytesOf(a));
    await gpu.run(relu(a, { input: await enter(gpu, x), output }));
    same(await leave(gpu, a, output), reference.relu(x).data, 'relu');
  });

  test.each([...SHAPES, ...ROWS].map((shape) => [shape]))('dropout %j', async (shape) => {
    const x = random('dropout', shape);
    x.data.set([NaN, Infinity, -0].slice(0, x.data.length - 1));
    const a = activation(x);
    const input = await enter(gpu, x);
    for (const [p, seed, layer] of [
      [0.5, 0, 33],
      [0, 1, 2],
      [1, 2 ** 32 - 1, 1],
      [0.1, 12345, 0],
    ] as const) {
      const output = gpu.empty(bytesOf(a));
      await gpu.run(dropout(a, { p, seed, layer }, { input, output }));
      const expected = reference.dropout(x, { op: 'dropout', name: '', path: '', p }, seed, layer);
      same(await leave(gpu, a, output), expected.data, `dropout ${p}`);
    }
  });
});
