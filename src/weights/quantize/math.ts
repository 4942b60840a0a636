import { VGGNetError } from '../../errors.js';
import { GROUP } from './metadata.js';

/*
 * Low-precision weights: w ≈ q · scale, with q an integer from −127 to 127 (int8) or −7 to 7 (int4), symmetric about
 * zero (Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference", 2018, section 3.1.2).
 *
 * A scale has so few digits that every q · scale is a float32 exactly, and the largest |w| of its values becomes the
 * largest q. So what was quantized once is quantized again to the same q and scale: a file's values may be handed on as
 * float32, and a backend that stores them in few bits loses nothing. assembly/expand.ts chooses scales in the same way.
 */

/** Precisions that have scales. */
export type Quantized = 'int8' | 'int4';

/** The largest |q|, and the digits of a scale after the first. */
const FORMATS = { int8: { largest: 127, digits: 16 }, int4: { largest: 7, digits: 7 } } as const;

const word = new Float64Array(1);
const bits = new BigInt64Array(word.buffer);

/**
 * The scale of values that share one: the largest |w| over the largest |q|, rounded up to 17 binary digits (int8, stored
 * as float32) or 8 (int4, as bfloat16). 0, and so nothing is left, for what is below 1e-36.
 * @throws VGGNetError `INVALID_ARGUMENT` for values that are not finite, or too large for float32 once rounded
 */
export function scaleFor(values: Float32Array, precision: Quantized): number {
  const { largest, digits } = FORMATS[precision];
  let most = 0;
  for (let i = 0; i < values.length; i++) {
    const size = Math.abs(values[i] as number);
    if (size <= most) continue;
    most = size;
    // Which no other is larger than.
    if (Number.isNaN(size)) break;
  }
  if (!Number.isFinite(most)) throw new VGGNetError('INVALID_ARGUMENT', `a weight of ${most} can't be ${precision}`);
  word[0] = most / largest;
  const exponent = Number((bits[0] as bigint) >> 52n) - 1023;
  if (exponent < -126) return 0;
  const step = 2 ** (exponent - digits);
  const scale = Math.ceil((word[0] as number) / step) * step;
  if (!Number.isFinite(Math.fround(largest * scale))) {
    throw new VGGNetError('INVALID_ARGUMENT', `a weight of ${most} is too large for ${precision}`);
  }
  return scale;
}

/** Adding and taking it away rounds to a whole number, ties to even. */
const ROUND = 1.5 * 2 ** 52;

/** The integers nearest to values over their scale. */
export function quantize(values: Float32Array, scale: number, out: Int8Array): void {
  const inverse = scale === 0 ? 0 : 1 / scale;
  for (let i = 0; i < values.length; i++) out[i] = (values[i] as number) * inverse + ROUND - ROUND;
}

/** The same times their scale, in place: what the weights are worth. */
export function roundTo(values: Float32Array, scale: number): void {
  const inverse = scale === 0 ? 0 : 1 / scale;
  for (let i = 0; i < values.length; i++) values[i] = ((values[i] as number) * inverse + ROUND - ROUND) * scale;
}

/** The parts of a row that share a scale each. */
export function* groupsOf(row: Float32Array, precision: Quantized): Generator<Float32Array> {
  if (precision === 'int8') yield row;
  else for (let from = 0; from < row.length; from += GROUP) yield row.subarray(from, from + GROUP);
}
