import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import * as batchNormReference from '../../src/reference/batch-norm.js';
import * as reference from '../../src/reference/kernels.js';
import { Tensor } from '../../src/tensor.js';
import type { BufferView, Capabilities } from '../../src/webgpu/kernel.js';
import type { Algorithm, Fused } from '../../src/webgpu/ops/algorithm.js';
import { foldBatchNorm } from '../../src/webgpu/ops/batchnorm2d.js';
import { conv2d, conv2dWeights, planConv2d } from '../../src/webgpu/ops/conv2d.js';
import { padded } from '../../src/webgpu/ops/dispatch.js';
import { expectClose, type Tolerance } from '../support/close.js';
import { GPUKernels } from '../support/gpu-kernels.js';
import { bytesOf, conv, enter, half, leave, norm, pack, random, vector, weights } from '../support/gpu-values.js';

/* Convolution by shaders/gemm.wgsl and winograd.wgsl, with each algorithm. */

let gpu: GPUKernels;
beforeAll(async () => {
  gpu = await GPUKernels.create();
});
afterAll(() => gpu?.destroy());

/** Runs the convolution as fused, and the reference one step at a time. */
async function compareConv(
  [n, c, h, w]: readonly [number, number, number, number],
  oc: number,
  fused: Fused,
  algorithm: Algorithm,
  precision: 'fp32' | 'fp16',
  tolerance: Tolerance,
  { x = random('x', [n, c, h, w]), caps = gpu.caps }: { x?: Tensor; caps?: Capabilities } = {},
): Promise<void> {
  const layer = { ...conv(c, oc), precision };
  const weight = weights('w', [oc, c, 3, 3], 9 * c).data;
  const bias = random('b', [oc]).data;
  const statistics = {
    weight: random('scale', [oc]).data,
    bias: random('shift', [oc]).data,
    running_mean: random('mean', [oc]).data,
    running_var: random('var', [oc]).data.map((value) => value + 1.5),
  };
  const shape = { n, h, w, inChannels: c, outChannels: oc, f16: precision === 'fp16' };
  const plan = planConv2d(shape, fused, caps, algorithm);
  const [packed] = (await pack(gpu, layer, 'weight', weight)) as [BufferView];
  const transformed = gpu.empty(plan.weightBytes);
  const [scale, shift] = [gpu.empty(padded(oc) * 4), gpu.empty(padded(oc) * 4)];
  const out = { n, h: plan.outputHeight, w: plan.outputWidth, c: oc };
  const output = gpu.empty(bytesOf(out));
  const views = {
    weight: vector(gpu, statistics.weight),
    bias: vector(gpu, statistics.bias),
    runningMean: vector(gpu, statistics.running_mean),
    runningVar: vector(gpu, statistics.running_var),
    convBias: vector(gpu, bias),
    scale,
    shift,
  };
  await gpu.run(
    fused.batchNorm ? foldBatchNorm(norm(oc), views) : [],
    conv2dWeights(plan, { packed, transformed }),
    conv2d(plan, {
      input: await enter(gpu, x),
      weight: plan.weightBytes > 0 ? transformed : packed,
      bias: fused.batchNorm ? shift : views.convBias,
      scale: fused.batchNorm ? scale : undefined,
      output,
      scratch: plan.scratchBytes.map((bytes) => gpu.empty(bytes)),
    }),
  );
  const kept = precision === 'fp16' ? weight.map(half) : weight;
  let expected = reference.conv2d(x, layer, { weight: kept, bias });
  if (fused.batchNorm) expected = batchNormReference.batchNorm2d(expected, norm(oc), statistics);
  if (fused.relu) expected = reference.relu(expected);
  if (fused.pool) expected = reference.maxPool2d(expected);
  const what = `conv2d ${plan.algorithm} ${n}×${c}×${h}×${w} → ${oc}, ${JSON.stringify(fused)}, ${precision}`;
  expectClose(await leave(gpu, out, output), expected.data, { ...tolerance, what, shape: expected.shape });
  if (oc % 4 !== 0) {
    const stored = await gpu.download({ ...output, size: bytesOf(out) });
    expect(stored.every((value, i) => i % padded(oc) < oc || value === 0)).toBe(true);
  }
}

const PLAIN: Fused = { batchNorm: false, relu: false, pool: false };
const ALL: Fused = { batchNorm: true, relu: true, pool: true };

describe.each(['direct', 'winograd2', 'winograd4'] as const)('conv2d kernels on webgpu, %s', (algorithm) => {
  // Sums of a few hundred products of unit size, whose rounding Winograd's transforms make a few times larger.
  const tolerance = { atol: algorithm === 'winograd4' ? 1e-5 : 3e-6, rtol: 1e-5 };
  const cases: readonly (readonly [readonly [number, number, number, number], number, Fused])[] = [
    [[1, 1, 1, 1], 1, PLAIN],
    [[1, 3, 5, 7], 5, PLAIN],
    [[2, 5, 8, 6], 17, PLAIN],
    [[2, 17, 9, 4], 6, PLAIN],
    [[1, 64, 12, 13], 70, PLAIN],
    [[3, 8, 1, 9], 4, PLAIN],
    [[1, 3, 7, 5], 8, ALL],
    [[2, 20, 6, 10], 33, ALL],
    [[3, 9, 2, 2], 5, ALL],
    [[1, 4, 11, 17], 12, { batchNorm: false, relu: true, pool: true }],
    [[2, 6, 7, 7], 10, { batchNorm: true, relu: false, pool: false }],
  ];
  test.each(cases)('(%j) → %i, %j', async (shape, oc, fused) => {
    await compareConv(shape, oc, fused, algorithm, 'fp32', tolerance);
  });
  test.each(cases.slice(3, 8))('(%j) → %i, %j, float16 weights', async (shape, oc, fused) => {
    await compareConv(shape, oc, fused, algorithm, 'fp16', tolerance);
  });
});

describe('conv2d kernels on webgpu in large tiles', () => {
  test.each([
    ['128 × 64', [1, 3, 184, 183], 64, { ...ALL, batchNorm: false }],
    ['64 × 64', [1, 4, 96, 96], 124, PLAIN],
  ] as const)('%s', async (_, shape, oc, fused) => {
    await compareConv(shape, oc, fused, 'direct', 'fp32', { atol: 3e-6, rtol: 1e-5 });
  });
});

test.each(['winograd2', 'winograd4'] as const)('conv2d kernels on webgpu, %s in several turns', async (algorithm) => {
  const points = algorithm === 'winograd4' ? 36 : 16;
  // Room for 5 tiles of 20 channels, where there are 12 or more.
  const limits = { ...gpu.caps.limits, maxBufferSize: 2 ** 28, maxStorageBufferBindingSize: 5 * points * 20 * 4 };
  const caps = { ...gpu.caps, limits: limits as unknown as GPUSupportedLimits };
  await compareConv([2, 9, 11, 7], 18, ALL, algorithm, 'fp32', { atol: 1e-5, rtol: 1e-5 }, { caps });
});

describe('conv2d kernels on webgpu of NaN and infinities', () => {
  const shape = [1, 5, 9, 10] as const;
  const x = random('x', shape);
  for (const [i, value] of [NaN, Infinity, -Infinity, NaN].entries()) x.data[i * 107 + 13] = value;

  test.each([PLAIN, { batchNorm: false, relu: true, pool: false }, ALL])('direct, %j', async (fused) => {
    await compareConv(shape, 6, fused, 'direct', 'fp32', { atol: 3e-6, rtol: 1e-5 }, { x });
  });

  // A tile's transform mixes all its pixels, so that NaN takes the whole tile; it must not get lost.
  test.each(['winograd2', 'winograd4'] as const)('%s', async (algorithm) => {
    const all = new Tensor(
      x.data.map(() => NaN),
      x.shape,
    );
    await compareConv(shape, 6, ALL, algorithm, 'fp32', { atol: 0, rtol: 0 }, { x: all });
  });
});

describe('the choice of the algorithm on webgpu', () => {
  const choose = (n: number, side: number, c: number, oc: number, pool = false): Algorithm => {
    const shape = { n, h: side, w: side, inChannels: c, outChannels: oc, f16: false };
    return planConv2d(shape, { batchNorm: false, relu: true, pool }, gpu.caps).algorithm;
  };

  test('VGG16 at 224 × 224', () => {
    const layers = [
      [224, 3, 64, false],
      [224, 64, 64, true],
      [112, 64, 128, false],
      [112, 128, 128, true],
      [56, 128, 256, false],
      [56, 256, 256, true],
      [28, 256, 512, false],
      [28, 512, 512, true],
      [14, 512, 512, true],
    ] as const;
    expect(layers.map(([side, c, oc, pool]) => choose(1, side, c, oc, pool))).toEqual([
      'direct',
      ...Array.from({ length: 7 }, () => 'winograd4'),
      'winograd2',
    ]);
    expect(choose(32, 14, 512, 512)).toBe('winograd4');
  });

  test('no transformed weights that the device cannot bind', () => {
    const limits = { ...gpu.caps.limits, maxBufferSize: 2 ** 28, maxStorageBufferBindingSize: 20 * 2 ** 20 };
    const shape = { n: 1, h: 28, w: 28, inChannels: 512, outChannels: 512, f16: false };
    const caps = { ...gpu.caps, limits: limits as unknown as GPUSupportedLimits };
    expect(planConv2d(shape, PLAIN, caps).algorithm).toBe('winograd2');
  });

  test('an image too long for the kernel is refused', () => {
    const shape = { n: 1, h: 65_534, w: 1, inChannels: 4, outChannels: 4, f16: false };
    expect(() => planConv2d(shape, PLAIN, gpu.caps)).toThrow(/65533|65,533/);
  });

  test('a long image', async () => {
    await compareConv([1, 1, 2, 65_533], 1, ALL, 'direct', 'fp32', { atol: 3e-6, rtol: 1e-5 });
  });
});
