import type { Value } from './value.js';

/** (N, C, H, W) → (N, C·H·W): the same values. */
export function flatten({ data, shape: [N = 0, ...sizes] }: Value): Value {
  return { data, shape: [N, sizes.reduce((product, size) => product * size, 1)] };
}

/** The way back. */
export function flattenInputGradient({ data }: Value, shape: readonly number[]): Value {
  return { data, shape };
}
