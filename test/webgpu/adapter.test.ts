import { afterEach, describe, expect, test, vi } from 'vitest';
import { createBackend } from '../../src/model/device.js';
import { VGGNet } from '../../src/model.js';
import { describeAdapter, findAdapter } from '../../src/webgpu/adapter.js';

/* Which adapter is found, and what `device` makes of it. */

const info = (parts: Partial<GPUAdapterInfo>): GPUAdapterInfo =>
  ({
    vendor: '',
    architecture: '',
    device: '',
    description: '',
    ...parts,
  }) as GPUAdapterInfo;

/** An adapter that is good for nothing but to be described. */
const fake = (parts: Partial<GPUAdapterInfo>): GPUAdapter => ({ info: info(parts) }) as GPUAdapter;

/** Puts a WebGPU in the place of this runtime's. */
function stub(requestAdapter: () => Promise<GPUAdapter | null>): void {
  vi.stubGlobal('navigator', { gpu: { requestAdapter } });
}

afterEach(() => vi.unstubAllGlobals());

describe('what an adapter is', () => {
  test.each([
    [{ vendor: 'google', architecture: 'swiftshader' }, 'swiftshader', true],
    [{ vendor: '65541', description: 'llvmpipe (LLVM 15.0.6, 256 bits)' }, 'llvmpipe (LLVM 15.0.6, 256 bits)', true],
    [{ vendor: 'microsoft', description: 'Microsoft Basic Render Driver' }, 'Microsoft Basic Render Driver', true],
    [{ vendor: 'any', isFallbackAdapter: true }, 'any', true],
    [{ vendor: 'nvidia', architecture: 'hopper', isFallbackAdapter: false }, 'hopper', false],
    [{ vendor: 'apple', architecture: 'metal-3' }, 'metal-3', false],
    [{}, 'an unnamed adapter', false],
  ])('%o', (parts, description, software) => {
    expect(describeAdapter(fake(parts))).toEqual({ description, software });
  });

  test('isFallbackAdapter on the adapter itself, as before 2025', () => {
    expect(describeAdapter({ info: info({ vendor: 'x' }), isFallbackAdapter: true } as never).software).toBe(true);
    expect(describeAdapter({ isFallbackAdapter: true } as never).software).toBe(true);
  });
});

describe('finding one', () => {
  test('Node gets one by the package webgpu', async () => {
    const found = await findAdapter();
    expect(found).toMatchObject({ software: true, description: expect.stringContaining('SwiftShader') });
  });

  test('one that never answers is given up', async () => {
    stub(() => new Promise(() => {}));
    const start = performance.now();
    expect(await findAdapter(50)).toEqual({ missing: 'no adapter answered within 0.05 s' });
    expect(performance.now() - start).toBeLessThan(2000);
  });

  test('one that fails is told', async () => {
    stub(() => Promise.reject(new Error('the GPU process crashed')));
    expect(await findAdapter()).toEqual({ missing: 'the GPU process crashed' });
  });
});

describe("device: 'webgpu'", () => {
  test('without an adapter says why and what to do', async () => {
    stub(async () => null);
    const made = VGGNet.create('glyphs', { device: 'webgpu' });
    await expect(made).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      message: expect.stringMatching(/found no adapter.*the driver is missing.*device: 'wasm' runs everywhere/),
    });
  });

  test('whose adapter gives no device says so', async () => {
    stub(
      async () =>
        ({
          ...fake({ description: 'Broken' }),
          limits: {},
          features: new Set(),
          requestDevice: async () => {
            throw new Error('the driver is too old');
          },
        }) as never,
    );
    await expect(VGGNet.create('glyphs', { device: 'webgpu' })).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      message: expect.stringMatching(/'Broken'.*the driver is too old/),
    });
  });

  test.each([
    ['a network that learns', true],
    ['one for gradients of its input alone', () => false],
  ])('has no gradients, and says what to use: %s', async (_, gradients) => {
    // It can't make a device: this is refused before there is one.
    stub(async () => fake({ description: 'Any' }));
    const made = VGGNet.create([4, 'M'], { device: 'webgpu', gradients, numClasses: 3, hiddenFeatures: 4 });
    await expect(made).rejects.toMatchObject({
      name: 'VGGNetError',
      code: 'BACKEND_UNAVAILABLE',
      message: expect.stringMatching(/^Gradients .*on webgpu: use device: 'wasm', or leave out gradients$/),
    });
  });

  test('on a software adapter runs, as it was asked for', async () => {
    const { device } = await createBackend({ device: 'webgpu' });
    expect(device).toMatchObject({ backend: 'webgpu', reason: "asked for by device: 'webgpu'" });
    expect(device.build).toContain('SwiftShader');
  });

  test.each([
    [{ precision: 'fp8' }, /precision must be one of 'fp32', 'fp16', 'int8', 'int4', .* got "fp8"/],
    [{ gpuDevice: {} }, /gpuDevice must be a GPUDevice, got object/],
  ])('refuses %o', async (options, message) => {
    const made = VGGNet.create('glyphs', { device: 'webgpu', ...options } as never);
    await expect(made).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', message: expect.stringMatching(message) });
  });
});

describe("device: 'auto'", () => {
  const auto = async (): Promise<[string, string]> => {
    const { device } = await createBackend({});
    return [device.backend, device.reason];
  };

  test('takes WebAssembly over a software adapter', async () => {
    expect(await auto()).toEqual([
      'wasm',
      expect.stringMatching(/^auto: WebGPU has only 'SwiftShader.*computes on the CPU/),
    ]);
  });

  test('takes a GPU', async () => {
    stub(async () => fake({ vendor: 'nvidia', architecture: 'hopper', description: 'NVIDIA H100' }));
    expect(await auto()).toEqual(['webgpu', "auto: WebGPU has the adapter 'NVIDIA H100'"]);
  });

  test('takes WebAssembly where there is no adapter, or none answers', async () => {
    stub(async () => null);
    expect(await auto()).toEqual(['wasm', expect.stringMatching(/^auto: no WebGPU, as .*no adapter/)]);
    stub(() => Promise.reject(new Error('blocked')));
    expect(await auto()).toEqual(['wasm', 'auto: no WebGPU, as blocked']);
  });

  test('takes WebAssembly for results that are the same everywhere', async () => {
    stub(async () => fake({ vendor: 'nvidia' }));
    const { device } = await createBackend({ deterministic: true });
    expect(device).toMatchObject({
      backend: 'wasm',
      reason: expect.stringContaining('the same bits on every machine'),
    });
  });

  test('takes WebAssembly for gradients, which WebGPU does not have', async () => {
    stub(async () => fake({ vendor: 'nvidia' }));
    const { device } = await createBackend({ gradients: true });
    expect(device).toMatchObject({ backend: 'wasm', reason: 'auto: WebGPU has no gradients in this version' });
  });
});
