import type { Backend } from '../../src/backend.js';
import { Tensor } from '../../src/tensor.js';
import type { Tolerance } from './close.js';
import { generatedTensor } from './generated.js';
import { compileGenerated } from './golden.js';
import type { program } from './kernel.js';

/* Inputs and tolerances of the tests in test/ops/. */

/** Comparisons and copies round nothing. */
export const EXACT: Tolerance = { atol: 0, rtol: 0 };
/**
 * Sums of K products of inputs below √3 and Kaiming weights: each sum is near 1.4, its partial sums below 10, and
 * the error of float32 in any order about √K · 2^-24 of those: up to 4e-6 where K = 1000 are summed one by one.
 */
export const SUM: Tolerance = { atol: 1e-5, rtol: 1e-5 };
/** SUM, whose error a batch norm multiplies by up to 1.5 / √0.5, and the next sums carry on. */
export const CHAIN: Tolerance = { atol: 2e-5, rtol: 2e-5 };
/** A deviation may be as small as a tenth of the values that it is made from, which multiplies errors of 2e-6. */
export const BATCH_STATISTICS: Tolerance = { atol: 2e-5, rtol: 1e-5 };

/** Heights and widths: 1, and even and odd ones below and above the kernels' tiles. */
export const SIDES = [1, 2, 3, 5, 7, 14, 15] as const;
/** (N, C): channels below, above and at multiples of a vector of four. */
export const BATCHES = [
  [1, 1],
  [2, 5],
  [3, 8],
  [1, 17],
  [1, 64],
] as const;

/** The same values for the same shape. */
export function input(shape: readonly number[]): Tensor {
  return generatedTensor(`input ${shape.join('x')}`, shape, 'input');
}

/** With NaN and both infinities, far enough apart that each acts alone in some outputs, and together in others. */
export function withSpecials(tensor: Tensor): Tensor {
  const data = tensor.data.slice();
  for (const [i, value] of [NaN, Infinity, -Infinity].entries()) {
    data[Math.floor(((i + 0.5) * data.length) / 3)] = value;
  }
  return new Tensor(data, tensor.shape);
}

/** With −Infinity in all of the first image, so that some windows and rows hold nothing else. */
export function withNegativeInfinities(tensor: Tensor): Tensor {
  const data = tensor.data.slice();
  return new Tensor(data.fill(-Infinity, 0, data.length / (tensor.shape[0] as number)), tensor.shape);
}

/** The output of the last layer. */
export async function runLast(
  backend: Backend,
  layers: ReturnType<typeof program>,
  x: Tensor,
  train = false,
  seed = 0,
): Promise<number[]> {
  const executable = await compileGenerated(backend, layers);
  const name = layers.at(-1)?.name as string;
  const [y] = await executable.run(x, { outputs: [name], mode: train ? 'train' : 'eval', seed });
  executable.dispose();
  return [...(y as Tensor).data];
}
