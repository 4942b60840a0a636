import type { BufferView, Dispatch } from '../kernel.js';
import type { Conv2dPlan } from './conv2d.js';
import { each, flag, padded } from './dispatch.js';

/**
 * Convolves directly what Winograd's method has left as NaN; see shaders/conv2d-repair.wgsl. None for the direct
 * algorithm. `packed` are the packed weights, not the transformed ones.
 */
export function repairConv2d(
  { algorithm, shape, fused, outputHeight, outputWidth }: Conv2dPlan,
  views: {
    input: BufferView;
    packed: BufferView;
    bias: BufferView;
    scale?: BufferView | undefined;
    output: BufferView;
  },
): Dispatch[] {
  if (algorithm === 'direct') return [];
  const { n, h, w, inChannels, outChannels, f16 } = shape;
  const { input, packed, bias, scale = bias, output } = views;
  const vectors = padded(outChannels) / 4;
  const count = n * outputHeight * outputWidth * vectors;
  const sizes = [count, h, w, outputHeight, outputWidth, inChannels, padded(inChannels), outChannels, vectors];
  const flags = [flag(fused.batchNorm), flag(fused.relu), flag(fused.pool)];
  const pipeline = { shader: 'conv2d-repair', entryPoint: 'repair', constants: { F16: flag(f16) } };
  return [each('conv2d repair', pipeline, count, [input, packed, bias, scale, output], [...sizes, ...flags])];
}
