import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { BatchNorm2d } from '../../src/program/layers.js';
import * as batchNormReference from '../../src/reference/batch-norm.js';
import * as reference from '../../src/reference/kernels.js';
import { Tensor } from '../../src/tensor.js';
import { batchNorm2d, batchNorm2dTrain, batchNormScratchBytes } from '../../src/webgpu/ops/batch-norm.js';
import { padded } from '../../src/webgpu/ops/dispatch.js';
import { dropout, relu } from '../../src/webgpu/ops/elementwise.js';
import { adaptiveAvgPool2d, maxPool2d } from '../../src/webgpu/ops/pool.js';
import { softmax } from '../../src/webgpu/ops/softmax.js';
import { expectClose } from '../support/close.js';
import { GPUKernels } from '../support/gpu-kernels.js';
import { activation, bytesOf, enter, leave, norm, random, same, vector } from '../support/gpu-values.js';

let gpu: GPUKernels;
beforeAll(async () => {
  gpu = await GPUKernels.create();
});
afterAll(() => gpu?.destroy());

/** Random values with some of what is special among them. */
function special(name: string, shape: readonly number[]): Tensor {
  const strange = [NaN, Infinity, -Infinity, -0, 0, 1e-45, -1e-45, 3.4e38, -NaN];
  const x = random(name, shape);
  return new Tensor(
    x.data.map((value, i) => (i % 5 === 3 ? (strange[((i / 5) % strange.length) | 0] as number) : value)),
    shape,
  );
}

const SHAPES: readonly (readonly [number, number, number, number])[] = [
  [1, 1, 1, 1],
  [1, 3, 5, 7],
  [2, 4, 2, 3],
  [3, 17, 9, 4],
  [2, 130, 3, 3],
];
const ROWS: readonly (readonly [number, number])[] = [
  [1, 1],
  [2, 5],
  [3, 1000],
  [5, 257],
];

describe('elementwise', () => {
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

describe('pool', () => {
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

describe('batchNorm2d', () => {
  const cases: readonly (readonly [number, number, number, number])[] = [
    ...SHAPES.slice(1),
    [2, 1, 1, 1],
    [1, 70, 40, 41],
    [1, 6, 60, 90],
  ];
  test.each(cases)('eval and train (%i, %i, %i, %i)', async (...shape) => {
    const x = random('norm', shape);
    for (let i = 0; i < x.data.length; i++) x.data[i] = (x.data[i] as number) * 2 + 30;
    const a = activation(x);
    const layer: BatchNorm2d = norm(a.c);
    const parameters = {
      weight: random('scale', [a.c]).data,
      bias: random('shift', [a.c]).data,
      running_mean: random('mean', [a.c]).data.map((value) => value + 30),
      running_var: random('var', [a.c]).data.map((value) => value + 1.5),
    };
    const views = {
      input: await enter(gpu, x),
      output: gpu.empty(bytesOf(a)),
      weight: vector(gpu, parameters.weight),
      bias: vector(gpu, parameters.bias),
      runningMean: vector(gpu, parameters.running_mean),
      runningVar: vector(gpu, parameters.running_var),
      scratch: gpu.empty(batchNormScratchBytes(a)),
    };
    // x − mean is off by a unit of x, 30 · 2^-24, before it is scaled by up to 1 / √0.5.
    const tolerance = { atol: 5e-6, rtol: 1e-5, shape };
    await gpu.run(batchNorm2d(a, views, { relu: true }));
    const evaluated = reference.relu(batchNormReference.batchNorm2d(x, layer, parameters)).data;
    expectClose(await leave(gpu, a, views.output), evaluated, { ...tolerance, what: 'batchNorm2d' });

    await gpu.run(batchNorm2dTrain(a, views, { relu: false }));
    const trained = batchNormReference.batchNorm2dTrain(x, layer, parameters).data;
    const wide = { ...tolerance, atol: a.n * a.h * a.w === 2 ? 1e-3 : 3e-5 };
    expectClose(await leave(gpu, a, views.output), trained, { ...wide, what: 'batchNorm2dTrain' });
    const running = { atol: 1e-6, rtol: 1e-5 };
    const mean = (await gpu.download(views.runningMean)).subarray(0, a.c);
    expectClose(mean, parameters.running_mean, { ...running, what: 'running_mean' });
    const variance = (await gpu.download(views.runningVar)).subarray(0, a.c);
    expectClose(variance, parameters.running_var, { ...running, what: 'running_var' });
  });
});

describe('softmax', () => {
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
