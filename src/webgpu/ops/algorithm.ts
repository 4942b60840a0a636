import type { Capabilities } from '../kernel.js';
import type { Conv2dShape, Fused } from './conv2d.js';
import { padded } from './dispatch.js';
import { gemmTile } from './gemm.js';

/** 'winograd2' and 'winograd4' are F(2×2, 3×3) and F(4×4, 3×3). */
export type Algorithm = 'direct' | 'winograd2' | 'winograd4';

/**
 * Arithmetic that a GPU does in the time of moving one byte: 18 (H100) to 40 (laptops) at their peaks, of which a
 * product of matrices reaches half to two thirds.
 */
const FLOPS_PER_BYTE = 20;
/** Workgroups under which a large GPU is partly idle. */
const FULL = 128;

/**
 * The algorithm of the least cost, counted as if a GPU either moved memory or multiplied: bytes + operations / 20.
 * Operations are those of whole tiles of the product, and count more where there are too few tiles to fill a GPU;
 * bytes are what each dispatch reads and writes. So F(4×4) wins in wide layers and large images, F(2×2) where there
 * are few tiles and F(4×4)'s 36 matrices of weights cost more than they save, and direct convolution where there are
 * few channels. What comes out for VGG16 at 224×224 is in test/webgpu/kernels-conv2d.test.ts.
 */
export function chooseAlgorithm(shape: Conv2dShape, fused: Fused, { limits }: Capabilities): Algorithm {
  const cp = padded(shape.inChannels);
  const ocp = padded(shape.outChannels);
  const limit = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const algorithms: readonly Algorithm[] = ['direct', 'winograd2', 'winograd4'];
  const fits = algorithms.filter((name) => name === 'direct' || points(name) * cp * ocp * 4 <= limit);
  const costs = fits.map((name) => cost(shape, fused, name));
  return fits[costs.indexOf(Math.min(...costs))] as Algorithm;
}

function cost({ n, h, w, inChannels, outChannels, f16 }: Conv2dShape, fused: Fused, name: Algorithm): number {
  const cp = padded(inChannels);
  const ocp = padded(outChannels);
  const pixels = n * h * w;
  const ends = 4 * pixels * (cp + (fused.pool ? ocp / 4 : ocp));
  if (name === 'direct') {
    return ends + 9 * cp * ocp * (f16 ? 2 : 4) + product(pixels, ocp, 9 * cp, 1) / FLOPS_PER_BYTE;
  }
  const side = name === 'winograd4' ? 4 : 2;
  const tiles = n * Math.ceil(h / side) * Math.ceil(w / side);
  // Each is written by one dispatch and read by the next.
  const scratch = 2 * 4 * points(name) * tiles * (cp + ocp);
  const weights = 4 * points(name) * cp * ocp;
  return ends + scratch + weights + product(tiles, ocp, cp, points(name)) / FLOPS_PER_BYTE;
}

/** Operations of `batch` products of m × k and k × n values. */
function product(m: number, n: number, k: number, batch: number): number {
  const { bm, bn } = gemmTile(m, n, batch);
  const groups = Math.ceil(m / bm) * Math.ceil(n / bn);
  return 2 * groups * bm * bn * k * batch * Math.max(1, FULL / (groups * batch));
}

const points = (name: Algorithm): number => (name === 'winograd4' ? 36 : 16);
