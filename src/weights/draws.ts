import { VGGNetError } from '../errors.js';
import { type Mt19937, NORMAL_BLOCK } from '../random.js';

/* What initial weights take of the random numbers, besides normal values: loaded with weights/init.ts. */

/** Fills `out` as `tensor.uniform_(from, to)` does. */
export function fillUniform(out: Float32Array, generator: Mt19937, from: number, to: number): void {
  const low = Math.fround(from);
  const range = Math.fround(Math.fround(to) - low);
  if (!(range >= 0 && range < Number.POSITIVE_INFINITY)) {
    throw new VGGNetError('INVALID_ARGUMENT', `A uniform range must be finite and ascending, got ${from} to ${to}`);
  }
  generator.fillUnit(out, range, low);
}

/** How many integers `fillNormal` draws for a tensor of at least 16 values. */
export function normalDraws(size: number): number {
  return size % NORMAL_BLOCK === 0 ? size : size + NORMAL_BLOCK;
}

/** Cuts a tensor of `size` values into parts of at most `most` (a multiple of 16) that `fillNormal` may fill in turn. */
export function* normalParts(size: number, most: number): Generator<number, void, undefined> {
  let left = size;
  while (left > 0) {
    let part = Math.min(left, most);
    // The last part needs 16 values, since a tail is made with the values before it.
    if (left > part && left - part < NORMAL_BLOCK) part -= NORMAL_BLOCK;
    yield part;
    left -= part;
  }
}
