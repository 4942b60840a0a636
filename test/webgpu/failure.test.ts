import { describe, expect, test } from 'vitest';
import type { Executable, ParameterStream, RunOptions } from '../../src/backend.js';
import { VGGNet } from '../../src/model.js';
import { Tensor } from '../../src/tensor.js';
import { createWebGPUBackend } from '../../src/webgpu/backend.js';
import { within } from '../../src/webgpu/wait.js';
import { expectClose } from '../support/close.js';
import { generatedParameters, generatedTensor } from '../support/generated.js';
import { compileGenerated } from '../support/golden.js';
import { program } from '../support/kernel.js';
import { openDevice, webgpu } from '../support/webgpu.js';

/* Devices that are lost, and work that the GPU refuses: typed errors, never zeros, and a model that goes on if it can. */

const NET = program(
  { op: 'conv2d', inChannels: 3, outChannels: 8 },
  { op: 'batchNorm2d', channels: 8 },
  { op: 'relu' },
  { op: 'flatten' },
  { op: 'linear', inFeatures: 8 * 36, outFeatures: 5 },
);
const OPTIONS: RunOptions = { outputs: ['linear4'], mode: 'eval', seed: 0 };
const x = generatedTensor('x', [2, 3, 6, 6], 'input');
const reopen = (): ParameterStream => generatedParameters(NET);

async function renewable(): Promise<Executable> {
  const backend = await webgpu({ gpuDevice: undefined });
  return backend.compile({ layers: NET }, reopen(), { reopen });
}
const lose = async (executable: Executable): Promise<void> => (await executable.gpu?.device())?.destroy();
const idle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));

describe('a device that is lost', () => {
  test('while it idles: the next forward makes another, and gives the same', async () => {
    const executable = await renewable();
    const [before] = await executable.run(x, OPTIONS);
    await lose(executable);
    await idle();
    const [after] = await executable.run(x, OPTIONS);
    expectClose(after?.data ?? [], before?.data ?? [], { atol: 0, rtol: 0, what: 'after a loss' });
    executable.dispose();
  });

  test('in a forward: it rejects, and so do no others', async () => {
    const executable = await renewable();
    const [before] = await executable.run(x, OPTIONS);
    const device = await executable.gpu?.device();
    const running = executable.run(x, OPTIONS);
    const next = executable.run(x, OPTIONS);
    // The forward has begun when its commands come.
    const queue = device?.queue as GPUQueue;
    const submit = queue.submit.bind(queue);
    queue.submit = (commands) => {
      submit(commands);
      device?.destroy();
      queue.submit = submit;
    };
    await expect(running).rejects.toMatchObject({
      code: 'DEVICE_LOST',
      message: expect.stringContaining('The GPU device was lost'),
    });
    const [after] = await next;
    expectClose(after?.data ?? [], before?.data ?? [], { atol: 0, rtol: 0, what: 'after a loss' });
    executable.dispose();
  });

  test('while the weights arrive: loading rejects', async () => {
    const device = await openDevice();
    async function* parameters(): ParameterStream {
      for await (const chunk of generatedParameters(NET)) {
        yield chunk;
        device.destroy();
      }
    }
    const made = createWebGPUBackend({ gpuDevice: device, reason: '' }).compile({ layers: NET }, parameters());
    await expect(made).rejects.toMatchObject({ code: 'DEVICE_LOST' });
  });

  test('the statistics that training has moved outlive it', async () => {
    const executable = await renewable();
    await executable.run(x, { ...OPTIONS, mode: 'train' });
    const mean = await executable.readParameter('batchNorm2d1.running_mean');
    const [before] = await executable.run(x, OPTIONS);
    await lose(executable);
    await idle();
    const [after] = await executable.run(x, OPTIONS);
    expectClose(await executable.readParameter('batchNorm2d1.running_mean'), mean, { atol: 0, rtol: 0, what: 'mean' });
    expectClose(after?.data ?? [], before?.data ?? [], { atol: 0, rtol: 0, what: 'after training and a loss' });
    executable.dispose();
  });

  test('weights that can’t be read again: it says so, at once, each time', async () => {
    const backend = await webgpu({ gpuDevice: undefined });
    const executable = await backend.compile({ layers: NET }, reopen());
    await lose(executable);
    await idle();
    for (let i = 0; i < 2; i++) {
      await expect(executable.run(x, OPTIONS)).rejects.toMatchObject({
        code: 'DEVICE_LOST',
        message: expect.stringContaining('create the model again'),
      });
    }
    executable.dispose();
  });

  test('weights that fail when they are read again: their error, and the next forward tries once more', async () => {
    let broken = true;
    async function* again(): ParameterStream {
      if (broken) throw new Error('the file is gone');
      yield* reopen();
    }
    const backend = await webgpu({ gpuDevice: undefined });
    const executable = await backend.compile({ layers: NET }, reopen(), { reopen: again });
    await lose(executable);
    await idle();
    await expect(executable.run(x, OPTIONS)).rejects.toThrow('the file is gone');
    broken = false;
    await expect(executable.run(x, OPTIONS)).resolves.toHaveLength(1);
    executable.dispose();
  });

  test('of the caller’s: it says that another is needed, before and after', async () => {
    const device = await openDevice();
    const backend = createWebGPUBackend({ gpuDevice: device, reason: '' });
    const executable = await backend.compile({ layers: NET }, reopen(), { reopen });
    device.destroy();
    await idle();
    await expect(executable.run(x, OPTIONS)).rejects.toMatchObject({
      code: 'DEVICE_LOST',
      message: expect.stringContaining('passed as gpuDevice'),
    });
    await expect(backend.compile({ layers: NET }, reopen())).rejects.toMatchObject({ code: 'DEVICE_LOST' });
    executable.dispose();
  });

  test('dispose after it is quiet', async () => {
    const executable = await renewable();
    const running = executable.run(x, OPTIONS);
    await lose(executable);
    executable.dispose();
    await expect(running.catch((error: unknown) => error)).resolves.toBeDefined();
    await expect(executable.run(x, OPTIONS)).rejects.toMatchObject({ code: 'DISPOSED' });
  });
});

describe('a model', () => {
  test('reads its file again after a loss', async () => {
    const model = await VGGNet.create('glyphs', { device: 'webgpu' });
    const image = Tensor.randn([1, 1, 32, 32]);
    const before = await model.forward(image);
    (await model.gpuDevice()).destroy();
    await idle();
    const after = await model.forward(image);
    expectClose(after.data, before.data, { atol: 0, rtol: 0, what: 'glyphs after a loss' });
    model.dispose();
  });

  test('leaves the caller’s device alive', async () => {
    const device = await openDevice();
    let lost = false;
    device.lost.then(() => {
      lost = true;
    });
    const model = await VGGNet.create([4, 'M'], { gpuDevice: device, numClasses: 2, hiddenFeatures: 4 });
    expect(model.device).toMatchObject({ backend: 'webgpu', reason: 'auto: a gpuDevice was passed' });
    expect(await model.gpuDevice()).toBe(device);
    model.dispose();
    await idle();
    expect(lost).toBe(false);
    device.destroy();
  });
});

describe('work that the GPU refuses', () => {
  /** A device on which buffers whose label matches fail as a driver would let them. */
  async function failing(label: RegExp, kind: 'validation' | 'out-of-memory'): Promise<GPUDevice> {
    const device = await openDevice();
    const scopes: { filter: string; hit: boolean }[] = [];
    const [push, pop] = [device.pushErrorScope.bind(device), device.popErrorScope.bind(device)];
    const create = device.createBuffer.bind(device);
    device.pushErrorScope = (filter) => {
      scopes.push({ filter, hit: false });
      return push(filter);
    };
    device.popErrorScope = async () => {
      const scope = scopes.pop();
      const error = await pop();
      return scope?.hit ? ({ message: 'vkAllocateMemory failed' } as GPUError) : error;
    };
    device.createBuffer = (descriptor) => {
      if (!label.test(descriptor.label ?? '')) return create(descriptor);
      if (kind === 'validation') return create({ ...descriptor, usage: 0xffff });
      const scope = scopes.findLast(({ filter }) => filter === 'out-of-memory');
      if (scope) scope.hit = true;
      return create(descriptor);
    };
    return device;
  }

  test.each([
    ['out-of-memory', 'OUT_OF_MEMORY', /weights of linear4.*vkAllocateMemory failed/],
    ['validation', 'GPU_ERROR', /weights of linear4/],
  ] as const)('%s in the weights names the layer', async (kind, code, message) => {
    const device = await failing(/linear4\.weight/, kind);
    const made = compileGenerated(createWebGPUBackend({ gpuDevice: device, reason: '' }), NET);
    await expect(made).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    device.destroy();
  });

  test('too little memory for the activations rejects, and a later forward may work', async () => {
    let fail = true;
    const label = { test: (text: string) => fail && text.startsWith('activations') } as RegExp;
    const device = await failing(label, 'out-of-memory');
    const executable = await compileGenerated(createWebGPUBackend({ gpuDevice: device, reason: '' }), NET);
    await expect(executable.run(x, OPTIONS)).rejects.toMatchObject({ code: 'OUT_OF_MEMORY' });
    fail = false;
    await expect(executable.run(x, OPTIONS)).resolves.toHaveLength(1);
    executable.dispose();
    device.destroy();
  });

  test('an invalid result buffer rejects the forward, and gives no zeros', async () => {
    const device = await failing(/read-back of linear4/, 'validation');
    const executable = await compileGenerated(createWebGPUBackend({ gpuDevice: device, reason: '' }), NET);
    await expect(executable.run(x, OPTIONS)).rejects.toMatchObject({
      code: 'GPU_ERROR',
      message: expect.stringContaining('linear4'),
    });
    executable.dispose();
    device.destroy();
  });
});

test('a wait ends', async () => {
  await expect(within(new Promise(() => {}), 20, () => new Error('late'))).rejects.toThrow('late');
  await expect(within(Promise.resolve(1), 20, () => new Error('late'))).resolves.toBe(1);
});
