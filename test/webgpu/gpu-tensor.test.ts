import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GPUTensor } from '../../src/gpu-tensor.js';
import { preprocess } from '../../src/image/preprocess.js';
import { IMAGENET_PRESET, type ImagePreset } from '../../src/image/preset.js';
import { VGGNet } from '../../src/model.js';
import { lowbias32 } from '../../src/program/dropout.js';
import { Tensor } from '../../src/tensor.js';
import { Context } from '../../src/webgpu/context.js';
import { textureToTensor } from '../../src/webgpu/image.js';
import { expectClose } from '../support/close.js';
import { openDevice } from '../support/webgpu.js';

/* Inputs and outputs that stay on the GPU. */

const USAGE = { MAP_READ: 1, COPY_SRC: 4, COPY_DST: 8, STORAGE: 0x80 };
const EXACT = { atol: 0, rtol: 0 };

let device: GPUDevice;
let model: VGGNet;
beforeAll(async () => {
  device = await openDevice();
  model = await VGGNet.create([8, 'M', 12, 'M'], {
    gpuDevice: device,
    numClasses: 6,
    hiddenFeatures: 10,
    poolSize: 2,
    preset: { ...IMAGENET_PRESET, resize: 40, crop: 32 },
  });
});
afterAll(() => {
  model?.dispose();
  device?.destroy();
});

function upload(data: Float32Array, usage: number = USAGE.COPY_SRC | USAGE.COPY_DST, before = 0): GPUBuffer {
  const buffer = device.createBuffer({ size: before + data.byteLength, usage });
  device.queue.writeBuffer(buffer, before, data as Float32Array<ArrayBuffer>);
  return buffer;
}

async function read({ buffer, offset, shape }: GPUTensor): Promise<Float32Array> {
  const bytes = shape.reduce((product, size) => product * size, 4);
  const target = device.createBuffer({ size: bytes, usage: USAGE.MAP_READ | USAGE.COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, offset, target, 0, bytes);
  device.queue.submit([encoder.finish()]);
  await target.mapAsync(1);
  const data = new Float32Array(target.getMappedRange()).slice();
  target.destroy();
  return data;
}

describe('tensors on the GPU', () => {
  const x = Tensor.randn([3, 3, 17, 22]);

  test('go in, with an offset too, and give what the same values on the CPU give', async () => {
    const expected = await model.forward(x);
    const from = await model.forward(new GPUTensor(upload(x.data), x.shape));
    expectClose(from.data, expected.data, { ...EXACT, what: 'GPUTensor in' });
    const shifted = new GPUTensor(upload(x.data, USAGE.COPY_SRC | USAGE.COPY_DST, 52), x.shape, { offset: 52 });
    expectClose((await model.forward(shifted)).data, expected.data, { ...EXACT, what: 'with an offset' });
  });

  test('come out, and are the caller’s', async () => {
    const expected = await model.features(x, ['relu1_1', 'fc8', 'fc8']);
    const logits = await model.forward(x, { output: 'gpu' });
    expect(logits).toBeInstanceOf(GPUTensor);
    expect(logits.shape).toEqual([3, 6]);
    const taps = await model.features(new GPUTensor(upload(x.data), x.shape), ['relu1_1', 'fc8'], { output: 'gpu' });
    for (const [tensor, name] of [
      [logits, 'fc8'],
      [taps.fc8, 'fc8'],
      [taps.relu1_1, 'relu1_1'],
    ] as const) {
      expect(tensor.shape).toEqual(expected[name].shape);
      expectClose(await read(tensor), expected[name].data, { ...EXACT, what: name });
      tensor.destroy();
    }
  });

  test('can be handed from one model to another', async () => {
    const first = await model.features(x, ['conv1_1'], { output: 'gpu' });
    const second = await VGGNet.create([4, 'M'], {
      gpuDevice: device,
      inChannels: 8,
      numClasses: 2,
      hiddenFeatures: 4,
    });
    const onCpu = await model.features(x, ['conv1_1']);
    const expected = await second.forward(onCpu.conv1_1);
    expectClose((await second.forward(first.conv1_1)).data, expected.data, { ...EXACT, what: 'two models' });
    second.dispose();
  });

  test.each([
    ['no buffer', () => new GPUTensor({} as GPUBuffer, [1]), 'INVALID_ARGUMENT', 'Expected a GPUBuffer, got object'],
    [
      'usage',
      () => new GPUTensor(upload(x.data, USAGE.STORAGE | USAGE.COPY_DST), x.shape),
      'INVALID_ARGUMENT',
      'needs the usage COPY_SRC, got usage 136',
    ],
    [
      'size',
      () => new GPUTensor(upload(x.data), [4, 3, 17, 22]),
      'INVALID_SHAPE',
      'needs 17952 bytes from byte 0 on, and the GPUBuffer has 13464',
    ],
    ['offset', () => new GPUTensor(upload(x.data), x.shape, { offset: 4 }), 'INVALID_SHAPE', 'from byte 4 on'],
    [
      'odd offset',
      () => new GPUTensor(upload(x.data), x.shape, { offset: 3 }),
      'INVALID_ARGUMENT',
      'multiple of 4, got 3',
    ],
    ['shape', () => new GPUTensor(upload(x.data), [1.5]), 'INVALID_SHAPE', 'A shape is a list of integers'],
  ])('of the wrong %s are refused', (_, make, code, message) => {
    expect(make).toThrow(expect.objectContaining({ code, message: expect.stringContaining(message) }));
  });

  test('of the wrong shape, destroyed, or of another device are refused, and the model goes on', async () => {
    const wrong = new GPUTensor(upload(x.data), [3, 17, 3, 22]);
    await expect(model.forward(wrong)).rejects.toMatchObject({ code: 'INVALID_SHAPE' });
    const destroyed = new GPUTensor(upload(x.data), x.shape);
    destroyed.destroy();
    await expect(model.forward(destroyed)).rejects.toMatchObject({ code: 'GPU_ERROR' });
    const other = await openDevice();
    const foreign = other.createBuffer({ size: x.data.byteLength, usage: USAGE.COPY_SRC });
    await expect(model.forward(new GPUTensor(foreign, x.shape))).rejects.toMatchObject({ code: 'GPU_ERROR' });
    other.destroy();
    await expect(model.forward(x)).resolves.toBeInstanceOf(Tensor);
  });

  test('are for WebGPU alone', async () => {
    const wasm = await VGGNet.create([4, 'M'], { device: 'wasm', inline: true, numClasses: 2, hiddenFeatures: 4 });
    const message = expect.stringContaining("need one with device: 'webgpu'");
    const refused = { code: 'BACKEND_UNAVAILABLE', message };
    await expect(wasm.forward(x, { output: 'gpu' })).rejects.toMatchObject(refused);
    await expect(wasm.forward(new GPUTensor(upload(x.data), x.shape))).rejects.toMatchObject(refused);
    await expect(wasm.gpuDevice()).rejects.toMatchObject(refused);
    await expect(wasm.forward(x, { output: 'disk' as 'gpu' })).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    wasm.dispose();
  });
});

describe('pictures', () => {
  const random = (width: number, height: number): Uint8Array<ArrayBuffer> =>
    Uint8Array.from({ length: width * height * 4 }, (_, i) => lowbias32(i) & 255);

  const presets: [string, ImagePreset][] = [
    ['torchvision', { ...IMAGENET_PRESET, resize: 40, crop: 32 }],
    ['no resize, no crop', { ...IMAGENET_PRESET, resize: null, crop: null }],
    ['a crop larger than the image', { ...IMAGENET_PRESET, resize: 20, crop: 48 }],
    [
      'BGR, enlarged',
      { mode: 'BGR', resize: 90, crop: 77, scale: 1, mean: [104, 117, 123], std: [1, 1, 1] } as ImagePreset,
    ],
    ['grey', { mode: 'L', resize: 31, crop: null, scale: 1 / 255, mean: [0.5], std: [0.25] } as ImagePreset],
  ];

  describe.each([
    [64, 48],
    [33, 71],
    [1, 5],
    [300, 3],
  ])('of %i×%i', (width, height) => {
    test.each(presets)('%s: the very values of preprocess', async (_, preset) => {
      const data = random(width, height);
      const texture = device.createTexture({ size: [width, height], format: 'rgba8unorm', usage: 2 | 4 });
      device.queue.writeTexture({ texture }, data, { bytesPerRow: width * 4 }, [width, height]);
      const context = new Context(device, { owned: false });
      const tensor = await textureToTensor(context, texture, preset);
      const expected = preprocess({ data, width, height, channels: 4 }, preset);
      expect(tensor.shape).toEqual(expected.shape);
      expectClose(await read(tensor), expected.data, { ...EXACT, what: 'a picture', shape: expected.shape });
      expect(context.allocated.buffers).toBe(0);
      tensor.destroy();
      texture.destroy();
    });
  });

  test('that are not decoded by the platform are uploaded', async () => {
    const raw = { data: random(50, 40), width: 50, height: 40, channels: 4 } as const;
    const onGpu = await model.preprocess(raw, { output: 'gpu' });
    const onCpu = await model.preprocess(raw);
    expect(onGpu.shape).toEqual([1, 3, 32, 32]);
    expectClose(await read(onGpu), onCpu.data, { ...EXACT, what: 'raw pixels' });
    expectClose((await model.forward(onGpu)).data, (await model.forward(onCpu)).data, { ...EXACT, what: 'logits' });
    onGpu.destroy();
  });
});
