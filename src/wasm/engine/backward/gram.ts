import { LINEAR } from '../../plan/args.js';
import { LINEAR_BACKWARD } from '../../plan/args-backward.js';
import { align, BYTES } from '../../plan/layout.js';
import type { EngineParts } from '../engine.js';

/* Gram matrices, computed by the kernels of linear layers in the part of the arena from byte `free` on. */

/** Rows of one call: few enough inputs for the kernel's scratch. */
const MAX_ROWS = 256;

/** X Xᵀ of a matrix (rows, columns): a linear layer whose weights are its input. */
export function gram(parts: EngineParts, x: Float32Array, rows: number, columns: number, free: number): Float32Array {
  const { heap, kernels, operations, buffers } = parts;
  const bytes = { x: align(x.byteLength), out: align(rows * rows * BYTES), bias: align(rows * BYTES) };
  heap.reserveArena(free + bytes.x + bytes.out + bytes.bias);
  const at = heap.arena + free;
  const [output, bias] = [at + bytes.x, at + bytes.x + bytes.out];
  heap.f32.set(x, at / BYTES);
  heap.f32.fill(0, bias / BYTES, bias / BYTES + rows);
  for (let first = 0; first < rows; first += MAX_ROWS) {
    operations.parallel(kernels.LINEAR, [LINEAR], {
      input: at + first * columns * BYTES,
      output: output + first * rows * BYTES,
      weights: at,
      bias,
      relu: 0,
      batch: Math.min(MAX_ROWS, rows - first),
      inFeatures: columns,
      outFeatures: rows,
      scratch: buffers.scratch,
      kind: 0,
      scales: 0,
      digits: 0,
    });
  }
  return heap.f32.slice(output / BYTES, output / BYTES + rows * rows);
}

/** S X for a matrix S (rows, rows) and X (rows, columns): the gradient of the input of a linear layer with weights X. */
export function gramBackward(
  { heap, kernels, operations }: EngineParts,
  s: Float32Array,
  x: Float32Array,
  rows: number,
  columns: number,
  free: number,
): Float32Array {
  const bytes = { x: align(x.byteLength), s: align(s.byteLength) };
  heap.reserveArena(free + 2 * bytes.x + bytes.s);
  const at = heap.arena + free;
  const [gradient, values] = [at + bytes.x, at + bytes.x + bytes.s];
  heap.f32.set(x, at / BYTES);
  heap.f32.set(s, gradient / BYTES);
  operations.parallel(kernels.LINEAR_INPUT_GRADIENT, [LINEAR_BACKWARD], {
    gradient,
    weights: at,
    values,
    batch: rows,
    inFeatures: columns,
    outFeatures: rows,
  });
  return heap.f32.slice(values / BYTES, values / BYTES + rows * columns);
}
