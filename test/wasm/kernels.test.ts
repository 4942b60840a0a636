import { describe, expect, test } from 'vitest';
import { resolveConfig } from '../../src/model/config.js';
import { withPrecision } from '../../src/model/precision.js';
import type { Layer } from '../../src/program/layers.js';
import { createLayers } from '../../src/vgg.js';
import { compileKernels, kernelFile } from '../../src/wasm/build.js';
import type { KernelBuild } from '../../src/wasm/kernels.js';

/* Which build of the kernels a network gets, and what is in it. */

const LAYERS: Layer[] = createLayers(resolveConfig([8, 'M'], { numClasses: 2, hiddenFeatures: 8, poolSize: 1 }));

const exportsOf = async (layers: readonly Layer[], build: KernelBuild, threads: number): Promise<string[]> =>
  WebAssembly.Module.exports(await compileKernels(kernelFile(build, threads, layers))).map(({ name }) => name);

describe.each(['simd', 'relaxed-simd'] as const)('%s', (build) => {
  test.each([1, 2])(
    'with %i threads has the low-precision kernels only where there are such weights',
    async (threads) => {
      const plain = await exportsOf(LAYERS, build, threads);
      const lowp = await exportsOf(withPrecision(LAYERS, { fc6: 'fp16' }), build, threads);
      expect(lowp.filter((name) => !plain.includes(name)).sort()).toEqual([
        'CONV2D_INT8',
        'EXPANDED',
        'expandRow',
        'packConv2dInt8',
        'packRow',
        'unpackConv2dInt8',
      ]);
      expect(plain.filter((name) => !lowp.includes(name))).toEqual([]);
    },
  );
});

test('fp32, asked for, is as if nothing was', () => {
  expect(kernelFile('simd', 1, withPrecision(LAYERS, 'fp32'))).toBe('simd');
  expect(kernelFile('simd', 1, withPrecision(LAYERS, 'int8'))).toBe('simd-lowp');
});
