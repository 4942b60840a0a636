import type { BufferView, Dispatch } from '../kernel.js';
import type { Conv2dPlan } from './conv2d.js';
import { flag, padded, perVector, uniformWords } from './dispatch.js';

/** `Params` of shaders/conv2d-repair.wgsl. */
export const CONV2D_REPAIR_PARAMS = 'count h w outHeight outWidth inChannels cp outChannels ocp4 scale relu pool';

/**
 * Computes by direct convolution the values that Winograd's method left as NaN; see shaders/conv2d-repair.wgsl. The
 * direct algorithm needs none. `packed` are the packed weights, not the transformed ones.
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
  const ocp4 = padded(outChannels) / 4;
  const count = n * outputHeight * outputWidth * ocp4;
  const params = uniformWords(CONV2D_REPAIR_PARAMS, {
    count,
    h,
    w,
    outHeight: outputHeight,
    outWidth: outputWidth,
    inChannels,
    cp: padded(inChannels),
    outChannels,
    ocp4,
    scale: fused.batchNorm,
    relu: fused.relu,
    pool: fused.pool,
  });
  const pipeline = { shader: 'conv2d-repair', entryPoint: 'repair', constants: { F16: flag(f16) } };
  return [perVector('conv2d repair', pipeline, count, [input, packed, bias, scale, output], params)];
}
