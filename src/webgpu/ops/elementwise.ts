import { dropoutBase, dropoutScale, dropoutThreshold } from '../../program/dropout.js';
import type { BufferView, Dispatch, PipelineSpec } from '../kernel.js';
import { each, floatBits, padded } from './dispatch.js';

export interface Activation {
  readonly n: number;
  readonly h: number;
  readonly w: number;
  /** Channels; for rows (h = w = 1) the features. */
  readonly c: number;
}

/** Activation → the same shape: negative values become 0, NaN stays. `output` is another buffer than `input`. */
export function relu(
  { n, h, w, c }: Activation,
  { input, output }: { input: BufferView; output: BufferView },
): Dispatch[] {
  const count = (n * h * w * padded(c)) / 4;
  return [each('relu', spec('relu'), count, [input, output], [count])];
}

/** Activation → the same shape, with the mask of `src/dropout.ts`. `layer` is the layer's index in the program. */
export function dropout(
  { n, h, w, c }: Activation,
  { p, seed, layer }: { p: number; seed: number; layer: number },
  { input, output }: { input: BufferView; output: BufferView },
): Dispatch[] {
  const count = (n * h * w * padded(c)) / 4;
  const params = [
    count,
    padded(c) / 4,
    c,
    h * w,
    dropoutBase(seed, layer),
    dropoutThreshold(p),
    floatBits(dropoutScale(p)),
  ];
  return [each('dropout', spec('dropout'), count, [input, output], params)];
}

const spec = (entryPoint: string): PipelineSpec => ({ shader: 'elementwise', entryPoint, constants: {} });
