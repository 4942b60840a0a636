import { dropoutHash, dropoutScale, dropoutThreshold } from '../program/dropout.js';
import type { ReluRule } from '../program/gradient.js';
import type { Dropout } from '../program/layers.js';
import { mapValues, type Value } from './value.js';

/** Negative values become 0; NaN stays, as `Math.max` gives NaN for it. */
export function relu(x: Value): Value {
  return mapValues(x, (value) => Math.max(value, 0));
}

/**
 * dx = 0 where y ≤ 0, and dy elsewhere, also where y is NaN. Nothing is multiplied, so a zero ends a NaN. 'guided' lets
 * only what is positive pass (Springenberg et al., "Striving for Simplicity", 2015).
 */
export function reluInputGradient(dy: Value, y: Value, rule: ReluRule): Value {
  return mapValues(dy, (value, i) => ((y.data[i] as number) <= 0 || (rule === 'guided' && value <= 0) ? 0 : value));
}

/** See program/dropout.ts for the mask. `layer` is this layer's index in the program. */
export function dropout(x: Value, { p }: Dropout, seed: number, layer: number): Value {
  const threshold = dropoutThreshold(p);
  const scale = dropoutScale(p);
  return mapValues(x, (value, i) => value * (dropoutHash(seed, layer, i) < threshold ? 0 : scale));
}

/** The same mask and scale: they come from (seed, layer, index), so that nothing is saved. */
export function dropoutInputGradient(dy: Value, layer: Dropout, seed: number, index: number): Value {
  return dropout(dy, layer, seed, index);
}
