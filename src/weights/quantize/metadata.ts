import type { Precision } from '../../program/precision.js';
import { numel } from '../../tensor.js';
import type { Quantized } from './math.js';

/*
 * A safetensors file with low-precision weights is an ordinary one: a weight's integers are a tensor of its name, I8
 * in int8, U8 with two columns a byte (the even one in the low bits, q + 8) in int4, and its scales one with `_scale`
 * behind the name, before it in the file. How they belong together is JSON in the metadata, under `PRECISION_KEY`.
 */

/** What is behind a weight's name for its scales. */
export const SCALE = '_scale';

/** Consecutive inputs of a linear layer's output that share a scale in int4; the last group may be shorter. */
export const GROUP = 32;

/** Each low-precision weight by its tensor's name. */
export type Recipe = Readonly<Record<string, RecipeEntry>>;
export interface RecipeEntry {
  readonly precision: 'fp16' | Quantized;
  /** The weight's shape. */
  readonly shape: readonly number[];
  /** `inputRange` of a convolution. */
  readonly inputRange?: number | undefined;
}

/** A tensor that holds a weight, or its scales. */
export interface StoredTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: keyof typeof ELEMENT_BYTES;
}

export const ELEMENT_BYTES = { F32: 4, F16: 2, BF16: 2, I8: 1, U8: 1 } as const;

/** The tensors of a weight: its scales, one for each output channel in int8, for each group of inputs in int4; then itself. */
export function storedTensors(name: string, shape: readonly number[], precision: Precision): readonly StoredTensor[] {
  const [out = 0] = shape;
  const columns = numel(shape.slice(1));
  switch (precision) {
    case 'fp32':
      return [{ name, shape, dtype: 'F32' }];
    case 'fp16':
      return [{ name, shape, dtype: 'F16' }];
    case 'int8':
      return [
        { name: name + SCALE, shape: [out], dtype: 'F32' },
        { name, shape, dtype: 'I8' },
      ];
    case 'int4':
      return [
        { name: name + SCALE, shape: [out, Math.ceil(columns / GROUP)], dtype: 'BF16' },
        { name, shape: [out, Math.ceil(columns / 2)], dtype: 'U8' },
      ];
  }
}
