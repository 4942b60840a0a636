import { describe, expect, test } from 'vitest';
import type { ParameterStream, RunOptions } from '../../src/backend.js';
import { type Layer, parametersOf } from '../../src/program/layers.js';
import { createReferenceBackend } from '../../src/reference/backend.js';
import { Tensor } from '../../src/tensor.js';
import { findAdapter, requireAdapter } from '../../src/webgpu/adapter.js';
import { createWebGPUBackend } from '../../src/webgpu/backend.js';
import { expectClose } from '../support/close.js';
import { generatedParameters, generatedTensor } from '../support/generated.js';
import { compileGenerated } from '../support/golden.js';
import { expectAsReference, program } from '../support/kernel.js';
import { openDevice, webgpu } from '../support/webgpu.js';

/* The engine around the kernels: limits, parts, the queue, memory, profiles. The kernels have tests of their own. */

const CLOSE = { atol: 1e-4, rtol: 1e-4 };
const OPTIONS: RunOptions = { outputs: ['softmax6'], mode: 'eval', seed: 0 };

const NET = program(
  { op: 'conv2d', inChannels: 3, outChannels: 8 },
  { op: 'relu' },
  { op: 'maxPool2d' },
  { op: 'adaptiveAvgPool2d', outputSize: 3 },
  { op: 'flatten' },
  { op: 'linear', inFeatures: 72, outFeatures: 50 },
  { op: 'softmax' },
);
const input = (n: number, side = 12): Tensor => generatedTensor(`image ${side}`, [n, 3, side, side], 'input');

async function expected(layers: readonly Layer[], x: Tensor, options: RunOptions): Promise<Tensor[]> {
  const executable = await compileGenerated(createReferenceBackend(), layers);
  return executable.run(x, options);
}

async function* stream(layers: readonly Layer[], size: number): ParameterStream {
  for await (const { name, offset, data } of generatedParameters(layers)) {
    for (let from = 0; from < data.length; from += size) {
      yield { name, offset: offset + from, data: data.slice(from, from + size) };
    }
  }
}

describe('limits', () => {
  test('with the default limits of WebGPU', async () => {
    const backend = await webgpu({ gpuDevice: undefined, limits: 'default' });
    const executable = await compileGenerated(backend, NET);
    const device = await executable.gpu?.device();
    expect(device?.limits.maxStorageBufferBindingSize).toBe(128 * 2 ** 20);
    expect(device?.limits.maxBufferSize).toBe(256 * 2 ** 20);
    const [y] = await executable.run(input(2), OPTIONS);
    const [reference] = await expected(NET, input(2), OPTIONS);
    expectClose(y?.data ?? [], reference?.data ?? [], { ...CLOSE, what: 'default limits' });
    executable.dispose();
  });

  test('VGG’s first linear layer, 392 MiB, with the default limits', { timeout: 120_000 }, async () => {
    const { adapter } = requireAdapter(await findAdapter());
    const device = await adapter.requestDevice();
    const sizes: number[] = [];
    const create = device.createBuffer.bind(device);
    device.createBuffer = (descriptor) => {
      sizes.push(descriptor.size);
      return create(descriptor);
    };
    const layers = program({ op: 'linear', inFeatures: 25088, outFeatures: 4096 }, { op: 'relu' });
    const backend = createWebGPUBackend({ gpuDevice: device, reason: '' });
    await expectAsReference(backend, layers, generatedTensor('x', [1, 25088], 'input'), CLOSE);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(128 * 2 ** 20);
    expect(sizes.filter((size) => size > 64 * 2 ** 20).length).toBeGreaterThanOrEqual(4);
    device.destroy();
  });

  // 50 rows of 72 floats are 14,400 bytes: with 4 KiB they take 12 rows a shard.
  const small = { maxStorageBufferBindingSize: 4096, maxBufferSize: 4096 };
  test.each(['fp32', 'fp16'] as const)(
    'a linear layer is split by rows where a binding is too small, %s',
    async (precision) => {
      const backend = await webgpu({ limits: small });
      const layers = program({ op: 'linear', inFeatures: 72, outFeatures: 50, precision }, { op: 'relu' });
      const tolerance = precision === 'fp32' ? CLOSE : { atol: 2e-2, rtol: 1e-2 };
      for (const n of [1, 3, 14]) {
        await expectAsReference(backend, layers, generatedTensor('x', [n, 72], 'input'), tolerance);
      }
      // Chunks that begin and end in the middle of a row and of a shard.
      for (const size of [1, 7, 72, 871, 100_000]) {
        const executable = await backend.compile({ layers }, stream(layers, size));
        const weight = await executable.readParameter('linear0.weight');
        const exact = generatedTensor('linear0.weight', [50, 72], 'weight').data;
        // Half a step of float16: of its normal values, and of those below 2^-14.
        const rounding = precision === 'fp32' ? { atol: 0, rtol: 0 } : { atol: 2 ** -25, rtol: 2 ** -11 };
        expectClose(weight, exact, { ...rounding, what: `chunks of ${size}` });
        executable.dispose();
      }
    },
  );

  test('a batch whose activations do not fit runs in parts, to the same bits', async () => {
    const whole = await compileGenerated(await webgpu(), NET);
    const outputs = ['softmax6', 'relu1', 'adaptiveAvgPool2d3'];
    const [a, b, c] = await whole.run(input(7), { ...OPTIONS, outputs });
    whole.dispose();
    // One image's activations are 12 × 12 × 8 floats, 4,608 bytes; three fit.
    for (const bytes of [16_000, 4_700]) {
      const backend = await webgpu({ limits: { maxStorageBufferBindingSize: bytes, maxBufferSize: 32_000 } });
      const executable = await compileGenerated(backend, NET);
      const results = await executable.run(input(7), { ...OPTIONS, outputs });
      for (const [i, one] of [a, b, c].entries()) {
        expectClose(results[i]?.data ?? [], one?.data ?? [], { ...CLOSE, what: `${outputs[i]} in parts of ${bytes}` });
        expect(results[i]?.shape).toEqual(one?.shape);
      }
      const steps = await executable.profile(input(7), OPTIONS);
      expect(steps.map(({ name }) => name)).toContain('linear5');
      executable.dispose();
    }
  });

  test('an image that does not fit is refused, and the layer named; smaller ones still run', async () => {
    const backend = await webgpu({ limits: { maxStorageBufferBindingSize: 16_000, maxBufferSize: 16_000 } });
    const executable = await compileGenerated(backend, NET);
    await expect(executable.run(input(1, 40), OPTIONS)).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/bytes, and this GPU binds at most 16000 at once/),
    });
    await expect(executable.run(input(1), OPTIONS)).resolves.toHaveLength(1);
    executable.dispose();
    const large = program({ op: 'linear', inFeatures: 4000, outFeatures: 2 });
    await expect(compileGenerated(backend, large)).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringContaining('linear0'),
    });
  });

  test('without subgroups', async () => {
    const backend = await webgpu({ gpuDevice: undefined, without: ['subgroups', 'timestamp-query'] });
    await expectAsReference(backend, NET, input(1), CLOSE);
  });
});

describe('weights', () => {
  test.each([
    [
      'missing',
      (chunks: ParameterStream) => dropping(chunks, 'linear5.bias'),
      /linear5.bias: expected 50 values, got 0/,
    ],
    ['of another network', (chunks: ParameterStream) => renaming(chunks, 'linear5.bias'), /no parameter 'other'/],
  ])('%s are refused, and nothing is left', async (_, change, message) => {
    const device = await openDevice();
    const backend = createWebGPUBackend({ gpuDevice: device, reason: '' });
    const made = backend.compile({ layers: NET }, change(generatedParameters(NET)));
    await expect(made).rejects.toMatchObject({ code: 'WEIGHTS_MISMATCH', message: expect.stringMatching(message) });
    device.destroy();
  });

  async function* dropping(chunks: ParameterStream, name: string): ParameterStream {
    for await (const chunk of chunks) if (chunk.name !== name) yield chunk;
  }
  async function* renaming(chunks: ParameterStream, name: string): ParameterStream {
    for await (const chunk of chunks) yield chunk.name === name ? { ...chunk, name: 'other' } : chunk;
  }

  test('pipelines for the usual input are compiled while they arrive', async () => {
    const device = await openDevice();
    let compiled = 0;
    const create = device.createComputePipelineAsync.bind(device);
    device.createComputePipelineAsync = (descriptor) => {
      compiled++;
      return create(descriptor);
    };
    const layers = program(
      { op: 'conv2d', inChannels: 3, outChannels: 64 },
      { op: 'batchNorm2d', channels: 64 },
      { op: 'relu' },
      { op: 'conv2d', inChannels: 64, outChannels: 64 },
      { op: 'relu' },
      { op: 'maxPool2d' },
      { op: 'adaptiveAvgPool2d', outputSize: 3 },
      { op: 'flatten' },
      { op: 'linear', inFeatures: 576, outFeatures: 50 },
      { op: 'dropout', p: 0.5 },
      { op: 'softmax' },
    );
    const backend = createWebGPUBackend({ gpuDevice: device, reason: '' });
    const executable = await backend.compile({ layers, inputShape: [1, 3, 32, 32] }, generatedParameters(layers));
    const loaded = compiled;
    expect(loaded).toBeGreaterThan(5);
    await executable.run(input(1, 32), { ...OPTIONS, outputs: ['linear8', 'softmax10'] });
    expect(compiled).toBe(loaded);
    executable.dispose();
    device.destroy();
  });

  test('a usual input that is too large does not stop a model from loading', async () => {
    const backend = await webgpu({ limits: { maxStorageBufferBindingSize: 16_000, maxBufferSize: 16_000 } });
    const executable = await backend.compile({ layers: NET, inputShape: [1, 3, 400, 400] }, generatedParameters(NET));
    await expect(executable.run(input(1), OPTIONS)).resolves.toHaveLength(1);
    executable.dispose();
  });

  test('come back as they came', async () => {
    const executable = await compileGenerated(await webgpu(), NET);
    for (const { name, shape } of NET.flatMap(parametersOf)) {
      const kind = name.endsWith('bias') ? 'bias' : 'weight';
      const { data } = generatedTensor(name, shape, kind);
      expectClose(await executable.readParameter(name), data, { atol: 0, rtol: 0, what: name });
    }
    executable.dispose();
  });
});

describe('the queue', () => {
  test('forwards that overlap run one after another, each with its own input', async () => {
    const executable = await compileGenerated(await webgpu(), NET);
    const inputs = [1, 2, 3].map((n) => input(n));
    const results = await Promise.all(inputs.map((x) => executable.run(x, OPTIONS)));
    for (const [i, x] of inputs.entries()) {
      const [reference] = await expected(NET, x, OPTIONS);
      expectClose(results[i]?.[0]?.data ?? [], reference?.data ?? [], { ...CLOSE, what: `forward ${i}` });
    }
    executable.dispose();
  });

  test('the input may be written over at once', async () => {
    const executable = await compileGenerated(await webgpu(), NET);
    const x = input(1);
    const [reference] = await expected(NET, x, OPTIONS);
    const own = new Tensor(x.data.slice(), x.shape);
    const running = executable.run(own, OPTIONS);
    own.data.fill(NaN);
    expectClose((await running)[0]?.data ?? [], reference?.data ?? [], { ...CLOSE, what: 'written over' });
    executable.dispose();
  });

  test('an abort rejects at once, before its turn and in it, and the model goes on', async () => {
    const executable = await compileGenerated(await webgpu(), NET);
    const controllers = [new AbortController(), new AbortController()];
    const runs = controllers.map(({ signal }) => executable.run(input(2), { ...OPTIONS, signal }));
    const after = executable.run(input(2), OPTIONS);
    for (const controller of controllers) controller.abort(new Error('enough'));
    for (const run of runs) await expect(run).rejects.toMatchObject({ code: 'ABORTED', cause: { message: 'enough' } });
    await expect(after).resolves.toHaveLength(1);
    await expect(executable.run(input(1), { ...OPTIONS, signal: AbortSignal.abort() })).rejects.toMatchObject({
      code: 'ABORTED',
    });
    executable.dispose();
  });

  test('an abort while the weights arrive leaves nothing', async () => {
    const controller = new AbortController();
    async function* parameters(): ParameterStream {
      for await (const chunk of generatedParameters(NET)) {
        yield chunk;
        controller.abort();
      }
    }
    const made = (await webgpu()).compile({ layers: NET }, parameters(), { signal: controller.signal });
    await expect(made).rejects.toMatchObject({ code: 'ABORTED' });
  });

  test('dispose rejects what waits, and may be called twice', async () => {
    const executable = await compileGenerated(await webgpu(), NET);
    const runs = [executable.run(input(1), OPTIONS), executable.readParameter('linear5.bias')];
    executable.dispose();
    executable.dispose();
    for (const run of runs) await expect(run).rejects.toMatchObject({ code: 'DISPOSED' });
    await expect(executable.run(input(1), OPTIONS)).rejects.toMatchObject({ code: 'DISPOSED' });
  });
});

describe('profile', () => {
  test.each([
    ["the GPU's clock", []],
    ['one submit a step', ['timestamp-query']],
  ])('by %s names each step once', async (_, without) => {
    const executable = await compileGenerated(await webgpu({ gpuDevice: undefined, without }), NET);
    const steps = await executable.profile(input(3), OPTIONS);
    expect(steps.map(({ name }) => name)).toEqual([
      'to nhwc',
      'conv2d0+maxPool2d2',
      'adaptiveAvgPool2d3',
      'flatten4',
      'linear5',
      'softmax6',
    ]);
    expect(steps.find(({ name }) => name.startsWith('conv'))?.algorithm).toMatch(/^(direct|winograd)$/);
    expect(steps.every(({ ms }) => ms >= 0 && ms < 60_000)).toBe(true);
    expect(steps.reduce((sum, { ms }) => sum + ms, 0)).toBeGreaterThan(0);
    executable.dispose();
  });
});

describe('memory', () => {
  /** Counts the buffers that live on a device. */
  async function counted(): Promise<{ device: GPUDevice; live: () => number }> {
    const device = await openDevice();
    const live = new Set<GPUBuffer>();
    const create = device.createBuffer.bind(device);
    device.createBuffer = (descriptor) => {
      const buffer = create(descriptor);
      expect(buffer.label, 'every buffer has a label').not.toBe('');
      live.add(buffer);
      const destroy = buffer.destroy.bind(buffer);
      buffer.destroy = () => {
        live.delete(buffer);
        return destroy();
      };
      return buffer;
    };
    return { device, live: () => live.size };
  }

  test('100 times load, run, dispose leaves no buffer', { timeout: 120_000 }, async () => {
    const { device, live } = await counted();
    const backend = createWebGPUBackend({ gpuDevice: device, reason: '' });
    for (let i = 0; i < 100; i++) {
      const executable = await compileGenerated(backend, NET);
      await executable.run(input(1 + (i % 3)), OPTIONS);
      executable.dispose();
      expect(live(), `after ${i + 1} times`).toBe(0);
    }
    device.destroy();
  });

  test('forwards of many shapes leave no more buffers than they take, and none at the end', async () => {
    const { device, live } = await counted();
    const executable = await compileGenerated(createWebGPUBackend({ gpuDevice: device, reason: '' }), NET);
    const seen: number[] = [];
    for (let i = 0; i < 40; i++) {
      await executable.run(input(1 + (i % 4), 8 + (i % 5)), OPTIONS);
      seen.push(live());
    }
    expect(seen[39]).toBeLessThanOrEqual(Math.max(...seen.slice(0, 20)));
    executable.dispose();
    expect(live()).toBe(0);
    device.destroy();
  });

  test('the forwards of the eight most recently used shapes stay prepared', async () => {
    const device = await openDevice();
    const executable = await compileGenerated(createWebGPUBackend({ gpuDevice: device, reason: '' }), NET);
    let prepared = 0;
    const create = device.createBindGroup.bind(device);
    device.createBindGroup = (descriptor) => {
      prepared++;
      return create(descriptor);
    };
    const prepares = async (side: number): Promise<boolean> => {
      const before = prepared;
      await executable.run(input(1, side), OPTIONS);
      return prepared > before;
    };
    // The largest first, after which no buffer has to grow.
    for (const side of [20, 19, 18, 17, 16, 15, 14, 13]) expect(await prepares(side), `first ${side}`).toBe(true);
    expect(await prepares(20)).toBe(false);
    expect(await prepares(12)).toBe(true);
    expect(await prepares(20), 'used before the last shape came').toBe(false);
    expect(await prepares(19), 'evicted by it').toBe(true);
    executable.dispose();
    device.destroy();
  });

  test('a forward that fails, and weights that do not come, leave no buffer either', async () => {
    const { device, live } = await counted();
    const backend = createWebGPUBackend({ gpuDevice: device, reason: '' });
    async function* broken(): ParameterStream {
      for await (const chunk of generatedParameters(NET)) {
        yield chunk;
        throw new Error('the disk is gone');
      }
    }
    await expect(backend.compile({ layers: NET }, broken())).rejects.toThrow('the disk is gone');
    expect(live()).toBe(0);
    device.destroy();
  });
});
