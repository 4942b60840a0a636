import type { AdaptiveAvgPool2d } from '../program/layers.js';
import { size4, type Value, zerosLike } from './value.js';

/** Max of each 2×2 window, stride 2, the odd last row or column left out. NaN in a window makes NaN. */
export function maxPool2d(x: Value): Value {
  const [N, C, H, W] = size4(x);
  const y = zerosLike(x, [N, C, Math.floor(H / 2), Math.floor(W / 2)]);
  for (const [out, from] of maxima(x).entries()) y.data[out] = x.data[from] as number;
  return y;
}

/** dy goes to the value that was the maximum, and nothing to the others. */
export function maxPool2dInputGradient(dy: Value, x: Value): Value {
  const dx = zerosLike(dy, x.shape);
  for (const [out, from] of maxima(x).entries()) dx.data[from] = dy.data[out] as number;
  return dx;
}

/**
 * The position of each window's maximum, as PyTorch finds it: of equal values the first in row-major order, with NaN the
 * last NaN.
 */
function maxima(x: Value): Uint32Array {
  const [N, C, H, W] = size4(x);
  const OH = Math.floor(H / 2);
  const OW = Math.floor(W / 2);
  const positions = new Uint32Array(N * C * OH * OW);
  let out = 0;
  for (let plane = 0; plane < N * C; plane++) {
    for (let i = 0; i < OH; i++) {
      for (let j = 0; j < OW; j++) {
        const first = (plane * H + 2 * i) * W + 2 * j;
        let position = first;
        let max = -Infinity;
        for (const at of [first, first + 1, first + W, first + W + 1]) {
          const value = x.data[at] as number;
          if (value > max || Number.isNaN(value)) {
            max = value;
            position = at;
          }
        }
        positions[out++] = position;
      }
    }
  }
  return positions;
}

/**
 * (N, C, H, W) → (N, C, O, O). Cell i averages the rows from ⌊i·H/O⌋ up to, not including, ⌈(i+1)·H/O⌉,
 * and the columns alike, as torch.nn.AdaptiveAvgPool2d; cells overlap where O does not divide H.
 */
export function adaptiveAvgPool2d(x: Value, { outputSize: O }: AdaptiveAvgPool2d): Value {
  const [N, C, H, W] = size4(x);
  const y = zerosLike(x, [N, C, O, O]);
  let out = 0;
  for (let plane = 0; plane < N * C; plane++) {
    for (let i = 0; i < O; i++) {
      for (let j = 0; j < O; j++) {
        let sum = 0;
        let count = 0;
        for (let row = start(i, H, O); row < end(i, H, O); row++) {
          for (let column = start(j, W, O); column < end(j, W, O); column++) {
            sum += x.data[(plane * H + row) * W + column] as number;
            count++;
          }
        }
        y.data[out++] = sum / count;
      }
    }
  }
  return y;
}

/** dx is the sum, over the cells that a value is in, of dy divided by the number of values of the cell. */
export function adaptiveAvgPool2dInputGradient(
  dy: Value,
  { outputSize: O }: AdaptiveAvgPool2d,
  shape: readonly number[],
): Value {
  const dx = zerosLike(dy, shape);
  const [N, C, H, W] = size4(dx);
  for (let plane = 0; plane < N * C; plane++) {
    for (let row = 0; row < H; row++) {
      for (let column = 0; column < W; column++) {
        let sum = 0;
        for (let i = 0; i < O; i++) {
          const rows = end(i, H, O) - start(i, H, O);
          if (row < start(i, H, O) || row >= end(i, H, O)) continue;
          for (let j = 0; j < O; j++) {
            const columns = end(j, W, O) - start(j, W, O);
            if (column < start(j, W, O) || column >= end(j, W, O)) continue;
            sum += (dy.data[(plane * O + i) * O + j] as number) / (rows * columns);
          }
        }
        dx.data[(plane * H + row) * W + column] = sum;
      }
    }
  }
  return dx;
}

function start(cell: number, size: number, cells: number): number {
  return Math.floor((cell * size) / cells);
}

function end(cell: number, size: number, cells: number): number {
  return Math.ceil(((cell + 1) * size) / cells);
}
