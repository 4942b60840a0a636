import { lowbias32 } from '../../src/program/dropout.js';
import type { BatchNorm2d, Conv2d, Layer, Linear } from '../../src/program/layers.js';
import { numel, Tensor } from '../../src/tensor.js';
import type { BufferView, Capabilities } from '../../src/webgpu/kernel.js';
import { padded } from '../../src/webgpu/ops/dispatch.js';
import type { Activation } from '../../src/webgpu/ops/elementwise.js';
import { toNCHW, toNHWC } from '../../src/webgpu/ops/layout.js';
import { packedLayout, packPiece } from '../../src/webgpu/ops/pack.js';
import { expectClose } from './close.js';
import type { GPUKernels } from './gpu-kernels.js';
import { BATCH_NORM } from './kernel.js';

/* Values and buffers for the tests of single kernels. */

/** Uniform from −1 to 1, the same for the same name. */
export function random(name: string, shape: readonly number[]): Tensor {
  let seed = 0;
  for (const letter of name) seed = lowbias32(seed * 31 + letter.charCodeAt(0));
  const data = new Float32Array(numel(shape)).map((_, i) => lowbias32(seed + i) / 2 ** 31 - 1);
  return new Tensor(data, shape);
}

/** `random` with NaN, infinities, zeros, and the smallest and largest values among them. */
export function special(name: string, shape: readonly number[]): Tensor {
  const strange = [NaN, Infinity, -Infinity, -0, 0, 1e-45, -1e-45, 3.4e38, -NaN];
  const x = random(name, shape);
  return new Tensor(
    x.data.map((value, i) => (i % 5 === 3 ? (strange[((i / 5) % strange.length) | 0] as number) : value)),
    shape,
  );
}

/** (N, C, H, W) of the tests of single kernels. */
export const SHAPES: readonly (readonly [number, number, number, number])[] = [
  [1, 1, 1, 1],
  [1, 3, 5, 7],
  [2, 4, 2, 3],
  [3, 17, 9, 4],
  [2, 130, 3, 3],
];

/** Weights whose sums over `fanIn` inputs have about the inputs' size. */
export function weights(name: string, shape: readonly number[], fanIn: number): Tensor {
  const tensor = random(name, shape);
  return new Tensor(
    tensor.data.map((value) => value * Math.sqrt(3 / fanIn)),
    shape,
  );
}

export const activation = ({ shape: [n = 1, c = 1, h = 1, w = 1] }: Tensor): Activation => ({ n, c, h, w });
export const bytesOf = ({ n, h, w, c }: Activation): number => n * h * w * padded(c) * 4;

/** A tensor as an activation. */
export async function enter(gpu: GPUKernels, x: Tensor): Promise<BufferView> {
  const shape = activation(x);
  const output = gpu.empty(bytesOf(shape));
  await gpu.run(toNHWC(shape, { input: gpu.upload(x.data), output }));
  return output;
}

/** An activation as a tensor's values. */
export async function leave(gpu: GPUKernels, shape: Activation, input: BufferView): Promise<Float32Array> {
  const output = gpu.empty(shape.n * shape.c * shape.h * shape.w * 4);
  await gpu.run(toNCHW(shape, { input, output }));
  return gpu.download({ ...output, size: shape.n * shape.c * shape.h * shape.w * 4 });
}

/** Packs a parameter in pieces of uneven sizes. */
export async function pack(
  gpu: GPUKernels,
  layer: Layer,
  key: string,
  values: Float32Array,
  caps: Capabilities = gpu.caps,
): Promise<BufferView[]> {
  const layout = packedLayout(layer, key, caps);
  const shards = layout.shards.map(({ bytes }) => gpu.empty(bytes, { zero: true }));
  const size = Math.ceil(values.length / 2.5);
  for (let offset = 0; offset < values.length; offset += size) {
    const piece = values.subarray(offset, offset + size);
    await gpu.run(packPiece(layout, { offset, count: piece.length, values: gpu.upload(piece) }, shards));
  }
  return shards;
}

/** What is stored of a float32 in float16. */
export function half(value: number): number {
  if (!Number.isFinite(value)) return value;
  const exponent = Math.max(-14, Math.floor(Math.log2(Math.abs(value) || 1e-30)));
  const unit = 2 ** (exponent - 10);
  const whole = Math.floor(value / unit);
  const rest = value / unit - whole;
  const rounded = (whole + (rest > 0.5 || (rest === 0.5 && whole % 2 !== 0) ? 1 : 0)) * unit;
  return Math.abs(rounded) > 65504 ? Math.sign(value) * Infinity : rounded;
}

/** Vectors as the kernels want them: padded with zeros. */
export function vector(gpu: GPUKernels, values: Float32Array): BufferView {
  const stored = new Float32Array(padded(values.length));
  stored.set(values);
  return gpu.upload(stored);
}

export function same(actual: Float32Array, expected: Float32Array, what: string): void {
  expectClose(actual, expected, { atol: 0, rtol: 0, what });
}

export const conv = (inChannels: number, outChannels: number): Conv2d => {
  return { op: 'conv2d', name: 'conv', path: 'conv', inChannels, outChannels };
};
export const dense = (inFeatures: number, outFeatures: number): Linear => {
  return { op: 'linear', name: 'fc', path: 'fc', inFeatures, outFeatures };
};
export const norm = (channels: number): BatchNorm2d => {
  return { op: 'batchNorm2d', name: 'bn', path: 'bn', channels, ...BATCH_NORM };
};
