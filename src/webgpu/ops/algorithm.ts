import type { Capabilities } from '../kernel.js';
import { padded } from './dispatch.js';
import { gemmTile } from './gemm.js';

export interface Conv2dShape {
  readonly n: number;
  readonly h: number;
  readonly w: number;
  readonly inChannels: number;
  readonly outChannels: number;
  /** The packed weights are float16. */
  readonly f16: boolean;
}

/** What the result of a convolution goes through on the way out, in this order. */
export interface Fused {
  /** Multiplied by `scale` and added to `bias`, which then is the shift of `foldBatchNorm`. */
  readonly batchNorm: boolean;
  readonly relu: boolean;
  /** 2×2 max-pool, stride 2. */
  readonly pool: boolean;
}

/** 'winograd2' and 'winograd4' are F(2×2, 3×3) and F(4×4, 3×3). */
export type Algorithm = 'direct' | 'winograd2' | 'winograd4';

/**
 * Floating-point operations in the time that a GPU needs to move one byte: 18 (H100) to 40 (laptops) at their peaks,
 * of which a matrix product reaches half to two thirds.
 */
const FLOPS_PER_BYTE = 20;
/** A large GPU is partly idle with fewer workgroups. */
const FULL_GPU = 128;

/**
 * The algorithm of the least cost, where cost = bytes moved + operations / 20. Operations are those of whole tiles of
 * the product, and count more where there are too few tiles to fill a GPU; bytes are those that each dispatch reads and
 * writes. So F(4×4) wins in wide layers and large images, F(2×2) where there are few tiles and the 36 weight matrices
 * of F(4×4) cost more than they save, and direct convolution where there are few channels. The choices for VGG16 at
 * 224×224 are in test/ops/conv2d-webgpu.test.ts.
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
    return ends + 9 * cp * ocp * (f16 ? 2 : 4) + operations(pixels, ocp, 9 * cp, 1) / FLOPS_PER_BYTE;
  }
  const side = name === 'winograd4' ? 4 : 2;
  const tiles = n * Math.ceil(h / side) * Math.ceil(w / side);
  // One dispatch writes it and the next reads it.
  const scratch = 2 * 4 * points(name) * tiles * (cp + ocp);
  const weights = 4 * points(name) * cp * ocp;
  return ends + scratch + weights + operations(tiles, ocp, cp, points(name)) / FLOPS_PER_BYTE;
}

/** Of `batch` products of m × k and k × n values. */
function operations(m: number, n: number, k: number, batch: number): number {
  const { bm, bn } = gemmTile(m, n, batch);
  const groups = Math.ceil(m / bm) * Math.ceil(n / bn);
  return 2 * groups * bm * bn * k * batch * Math.max(1, FULL_GPU / (groups * batch));
}

const points = (name: Algorithm): number => (name === 'winograd4' ? 36 : 16);
