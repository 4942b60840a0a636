import { afterAll, beforeAll, describe, test } from 'vitest';
import type { BatchNorm2d } from '../../src/program/layers.js';
import * as batchNormReference from '../../src/reference/batch-norm.js';
import * as reference from '../../src/reference/kernels.js';
import { batchNorm2d, batchNorm2dScratchBytes, batchNorm2dTrain } from '../../src/webgpu/ops/batchnorm2d.js';
import { expectClose } from '../support/close.js';
import { GPUKernels } from '../support/gpu-kernels.js';
import { activation, bytesOf, enter, leave, norm, random, SHAPES, vector } from '../support/gpu-values.js';

/* The kernels of shaders/batchnorm2d.wgsl. */

let gpu: GPUKernels;
beforeAll(async () => {
  gpu = await GPUKernels.create();
});
afterAll(() => gpu?.destroy());

describe('batchNorm2d kernels on webgpu', () => {
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
      scratch: gpu.empty(batchNorm2dScratchBytes(a)),
    };
    // x − mean is off by a unit of x, 30 · 2^-24, before it is scaled by up to 1 / √0.5.
    const tolerance = { atol: 5e-6, rtol: 1e-5, shape };
    await gpu.run(batchNorm2d(a, views, { ...layer, relu: true }));
    const evaluated = reference.relu(batchNormReference.batchNorm2d(x, layer, parameters)).data;
    expectClose(await leave(gpu, a, views.output), evaluated, { ...tolerance, what: 'batchNorm2d' });

    await gpu.run(batchNorm2dTrain(a, views, { ...layer, relu: false }));
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
