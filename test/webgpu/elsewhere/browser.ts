import { type GPUTensor, IMAGENET_PRESET, Tensor, VGGNet } from '../../../src/index.js';

/* What a page does with WebGPU: bundled and opened by browsers.test.ts, which looks at what comes back. */

export interface Report {
  readonly device: { readonly backend: string; readonly build: string; readonly reason: string };
  /** Of 'auto' on a software adapter. */
  readonly auto: { readonly backend: string; readonly reason: string };
  /** The greatest differences from the reference backend, by layer: |a − b| / (1 + |b|). */
  readonly differences: Readonly<Record<string, number>>;
  readonly steps: readonly string[];
  /** Values of pictures that differ from those of `preprocess` on the CPU, and how many there are. */
  readonly pictures: Readonly<Record<string, readonly [wrong: number, of: number]>>;
  readonly afterLoss: number;
  readonly lost: string;
}

const OPTIONS = {
  batchNorm: true,
  numClasses: 10,
  hiddenFeatures: 24,
  poolSize: 3,
  preset: { ...IMAGENET_PRESET, resize: 48, crop: 40 },
} as const;
const LIST = [8, 'M', 20, 20, 'M'] as const;
const LAYERS = ['conv1_1', 'relu1_1', 'pool1', 'relu2_2', 'avgpool', 'fc6', 'fc8', 'prob'] as const;

export async function report(): Promise<Report> {
  const model = await VGGNet.create([...LIST], { ...OPTIONS, device: 'webgpu' });
  const reference = await VGGNet.create([...LIST], { ...OPTIONS, device: 'reference' });
  const x = Tensor.randn([2, 3, 33, 42]);
  const [got, expected] = [await model.features(x, LAYERS), await reference.features(x, LAYERS)];
  const differences = Object.fromEntries(LAYERS.map((name) => [name, difference(got[name], expected[name])]));

  const onGpu = await model.forward(x, { output: 'gpu' });
  const around = await read(await model.gpuDevice(), onGpu);
  differences['fc8, left on the GPU'] = difference(new Tensor(around, onGpu.shape), expected.fc8);
  onGpu.destroy();

  const steps = (await model.profile(x)).layers.map(({ name }) => name);
  const pictures = await comparePictures(model);

  const running = model.forward(x);
  const device = await model.gpuDevice();
  await running;
  device.destroy();
  const lost = await model.forward(x).then(
    () => 'worked at once',
    (error: { code?: string }) => error.code ?? String(error),
  );
  const afterLoss = difference(await model.forward(x), expected.fc8);
  const auto = await VGGNet.create([4, 'M'], { ...OPTIONS, device: 'auto', inline: true });
  const result = { device: model.device, auto: auto.device, differences, steps, pictures, afterLoss, lost };
  for (const one of [model, reference, auto]) one.dispose();
  return JSON.parse(JSON.stringify(result)) as Report;
}

function difference(a: Tensor, b: Tensor): number {
  if (a.data.length !== b.data.length) return Infinity;
  let most = 0;
  for (const [i, value] of b.data.entries()) {
    const off = Math.abs((a.data[i] as number) - value) / (1 + Math.abs(value));
    // NaN is more than any bound.
    if (!(off <= most)) most = off;
  }
  return most;
}

async function comparePictures(model: VGGNet): Promise<Record<string, [number, number]>> {
  const canvas = new OffscreenCanvas(90, 61);
  const context = canvas.getContext('2d') as OffscreenCanvasRenderingContext2D;
  const gradient = context.createLinearGradient(0, 0, 90, 61);
  for (const [i, colour] of ['#f00', '#0c3', '#12f', '#fff', '#000'].entries()) gradient.addColorStop(i / 4, colour);
  context.fillStyle = gradient;
  context.fillRect(0, 0, 90, 61);
  context.fillStyle = '#fa8';
  context.fillRect(20, 30, 17, 9);
  const sources = {
    canvas,
    bitmap: await createImageBitmap(canvas),
    ...(typeof VideoFrame === 'function' ? { frame: new VideoFrame(canvas, { timestamp: 0 }) } : {}),
  };
  const results: Record<string, [number, number]> = {};
  for (const [name, source] of Object.entries(sources)) {
    const expected = await model.preprocess(source);
    const tensor = await model.preprocess(source, { output: 'gpu' });
    const values = await read(await model.gpuDevice(), tensor);
    tensor.destroy();
    results[name] = [expected.data.filter((value, i) => value !== values[i]).length, values.length];
  }
  sources.frame?.close();
  return results;
}

async function read(device: GPUDevice, { buffer, shape }: GPUTensor): Promise<Float32Array> {
  const size = shape.reduce((product, side) => product * side, 4);
  const target = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, target, 0, size);
  device.queue.submit([encoder.finish()]);
  await target.mapAsync(GPUMapMode.READ);
  const data = new Float32Array(target.getMappedRange()).slice();
  target.destroy();
  return data;
}

Object.assign(globalThis, { report });
