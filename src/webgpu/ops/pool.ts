import type { BufferView, Dispatch, PipelineSpec } from '../kernel.js';
import { padded, perVector, uniformWords } from './dispatch.js';
import type { Activation } from './elementwise.js';

interface Views {
  readonly input: BufferView;
  readonly output: BufferView;
}

/** `Params` of shaders/pool.wgsl. */
export const POOL_PARAMS = 'count cp h w oh ow features pitch';

/** Activation (N, H, W, C) → (N, ⌊H/2⌋, ⌊W/2⌋, C): the maximum of each 2×2 window, stride 2; NaN propagates. */
export function maxPool2d({ n, h, w, c }: Activation, { input, output }: Views): Dispatch[] {
  const [oh, ow, cp] = [Math.floor(h / 2), Math.floor(w / 2), padded(c)];
  const count = (n * oh * ow * cp) / 4;
  const params = uniformWords(POOL_PARAMS, { count, cp, h, w, oh, ow });
  return [perVector('maxPool2d', spec('maxPool2d'), count, [input, output], params)];
}

/**
 * Activation (N, H, W, C) → rows (N, C·O·O) in PyTorch's order, padded to a multiple of 4 values. Cells are those of
 * torch.nn.AdaptiveAvgPool2d.
 */
export function adaptiveAvgPool2d(
  { n, h, w, c }: Activation,
  outputSize: number,
  { input, output }: Views,
): Dispatch[] {
  const features = c * outputSize ** 2;
  const pitch = padded(features);
  const count = n * pitch;
  const size = { h, w, oh: outputSize, ow: outputSize };
  const params = uniformWords(POOL_PARAMS, { count, cp: padded(c), ...size, features, pitch });
  return [perVector('adaptiveAvgPool2d', spec('adaptiveAvgPool2d'), count, [input, output], params)];
}

const spec = (entryPoint: string): PipelineSpec => ({ shader: 'pool', entryPoint, constants: {} });
