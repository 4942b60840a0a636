import { dropoutBase, dropoutScale, dropoutThreshold } from '../../program/dropout.js';
import type { BufferView, Dispatch, PipelineSpec } from '../kernel.js';
import { padded, perVector, uniformWords } from './dispatch.js';

export interface Activation {
  readonly n: number;
  readonly h: number;
  readonly w: number;
  /** Channels; for rows (h = w = 1) the features. */
  readonly c: number;
}

/** `Params` of shaders/elementwise.wgsl. */
export const ELEMENTWISE_PARAMS = 'count c4 c hw base threshold scale:f32';

/** Activation → the same shape: negative values become 0, NaN stays. `output` is not the buffer of `input`. */
export function relu(
  { n, h, w, c }: Activation,
  { input, output }: { input: BufferView; output: BufferView },
): Dispatch[] {
  const count = (n * h * w * padded(c)) / 4;
  return [perVector('relu', spec('relu'), count, [input, output], uniformWords(ELEMENTWISE_PARAMS, { count }))];
}

/**
 * Activation → the same shape, with the mask of src/program/dropout.ts. `layer` is the layer's index in the program.
 */
export function dropout(
  { n, h, w, c }: Activation,
  { p, seed, layer }: { p: number; seed: number; layer: number },
  { input, output }: { input: BufferView; output: BufferView },
): Dispatch[] {
  const count = (n * h * w * padded(c)) / 4;
  const params = uniformWords(ELEMENTWISE_PARAMS, {
    count,
    c4: padded(c) / 4,
    c,
    hw: h * w,
    base: dropoutBase(seed, layer),
    threshold: dropoutThreshold(p),
    scale: dropoutScale(p),
  });
  return [perVector('dropout', spec('dropout'), count, [input, output], params)];
}

const spec = (entryPoint: string): PipelineSpec => ({ shader: 'elementwise', entryPoint, constants: {} });
