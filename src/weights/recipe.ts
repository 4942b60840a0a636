import { numel } from '../tensor.js';
import type { Quantised } from './quantise.js';
import type { WriteEntry } from './write.js';

/*
 * A safetensors file with weights in fewer bits is an ordinary one: a weight's whole numbers are a tensor of its name, I8
 * in int8, U8 with two columns a byte (the even one in the low bits, q + 8) in int4, and its scales one with `_scale`
 * behind the name, before it in the file. How they belong together is JSON in the metadata, under `PRECISION_KEY`.
 */

/** What is behind a weight's name for its scales. */
export const SCALE = '_scale';

/** Consecutive inputs of a linear layer's output that share a scale in int4; the last group may be shorter. */
export const GROUP = 32;

/** For each weight in fewer bits, by the tensor's name, what it is. */
export type Recipe = Readonly<Record<string, RecipeEntry>>;
export interface RecipeEntry {
  readonly precision: 'fp16' | Quantised;
  /** The weight's shape. */
  readonly shape: readonly number[];
  /** `inputRange` of a convolution. */
  readonly inputRange?: number | undefined;
}

/** The two tensors of a weight: one scale for each output channel in int8, for each group of inputs in int4. */
export function packedTensors(
  name: string,
  shape: readonly number[],
  precision: Quantised,
): { scales: WriteEntry; weight: WriteEntry } {
  const [out = 0] = shape;
  const columns = numel(shape.slice(1));
  if (precision === 'int8') {
    return { scales: { name: name + SCALE, shape: [out], dtype: 'F32' }, weight: { name, shape, dtype: 'I8' } };
  }
  return {
    scales: { name: name + SCALE, shape: [out, Math.ceil(columns / GROUP)], dtype: 'BF16' },
    weight: { name, shape: [out, Math.ceil(columns / 2)], dtype: 'U8' },
  };
}
