import type { BufferView, Dispatch, PipelineSpec } from '../kernel.js';
import { each, padded } from './dispatch.js';
import type { Activation } from './elementwise.js';

interface Views {
  readonly input: BufferView;
  readonly output: BufferView;
}

/** Activation (N, H, W, C) → (N, ⌊H/2⌋, ⌊W/2⌋, C): max of each 2×2 window, stride 2; a NaN in it makes NaN. */
export function maxPool2d({ n, h, w, c }: Activation, { input, output }: Views): Dispatch[] {
  const [oh, ow, c4] = [Math.floor(h / 2), Math.floor(w / 2), padded(c) / 4];
  const count = n * oh * ow * c4;
  return [each('maxPool2d', spec('maxPool2d'), count, [input, output], [count, c4, h, w, oh, ow])];
}

/**
 * Activation (N, H, W, C) → rows (N, C·O·O) in PyTorch's order, padded to a multiple of 4 values; that is
 * (N, C, O, O) where C·O·O is a multiple of 4. Cells are cut as torch.nn.AdaptiveAvgPool2d cuts them.
 */
export function adaptiveAvgPool2d(
  { n, h, w, c }: Activation,
  outputSize: number,
  { input, output }: Views,
): Dispatch[] {
  const features = c * outputSize ** 2;
  const count = n * padded(features);
  const params = [count, padded(c), h, w, outputSize, features, padded(features)];
  return [each('adaptiveAvgPool2d', spec('adaptiveAvgPool2d'), count, [input, output], params)];
}

const spec = (entryPoint: string): PipelineSpec => ({ shader: 'pool', entryPoint, constants: {} });
