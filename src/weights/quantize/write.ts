import { numel } from '../../tensor.js';
import { groupsOf, type Quantized, quantize, scaleFor } from './math.js';

/* Packs weights for a low-precision file. Weights that are rounded already lose nothing. */

/** The scales of a weight, row by row. */
export function scalesOf(values: Float32Array, shape: readonly number[], precision: Quantized): Float32Array {
  const columns = numel(shape.slice(1));
  const scales: number[] = [];
  for (let at = 0; at < values.length; at += columns) {
    for (const group of groupsOf(values.subarray(at, at + columns), precision)) scales.push(scaleFor(group, precision));
  }
  return Float32Array.from(scales);
}

/** Its integers as they are stored. */
export function packWeight(
  values: Float32Array,
  shape: readonly number[],
  precision: Quantized,
): Int8Array | Uint8Array {
  const columns = numel(shape.slice(1));
  const row = new Int8Array(columns);
  const rowBytes = precision === 'int8' ? columns : Math.ceil(columns / 2);
  const out = new Int8Array((values.length / columns) * rowBytes);
  for (let at = 0, to = 0; at < values.length; at += columns, to += rowBytes) {
    let start = 0;
    for (const group of groupsOf(values.subarray(at, at + columns), precision)) {
      quantize(group, scaleFor(group, precision), row.subarray(start, start + group.length));
      start += group.length;
    }
    if (precision === 'int8') out.set(row, to);
    else for (let i = 0; i < rowBytes; i++) out[to + i] = nibble(row[2 * i]) | (nibble(row[2 * i + 1]) << 4);
  }
  return precision === 'int8' ? out : new Uint8Array(out.buffer);
}

/** A value past the row's end is 0. */
function nibble(q = 0): number {
  return q + 8;
}
