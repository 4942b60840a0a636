import { VGGNetError } from '../../errors.js';
import type { BufferView, Capabilities, Dispatch } from '../kernel.js';
import { type Algorithm, chooseAlgorithm } from './algorithm.js';
import { padded } from './dispatch.js';
import { gemm, gemmTile } from './gemm.js';
import { planWinograd, type WinogradPlan, winograd, winogradWeights } from './winograd.js';

export interface Conv2dShape {
  readonly n: number;
  readonly h: number;
  readonly w: number;
  readonly inChannels: number;
  readonly outChannels: number;
  /** The packed weights are float16. */
  readonly f16: boolean;
}

/** What is done to the result on its way out, in this order. */
export interface Fused {
  /** Multiplied by `scale` and added to `bias`, which then is `foldBatchNorm`'s shift. */
  readonly batchNorm: boolean;
  readonly relu: boolean;
  /** 2×2 max-pool, stride 2. */
  readonly pool: boolean;
}

export interface Conv2dPlan {
  readonly algorithm: Algorithm;
  readonly shape: Conv2dShape;
  readonly fused: Fused;
  /** Of the output, after the pool. */
  readonly outputHeight: number;
  readonly outputWidth: number;
  /** Bytes of each scratch buffer; they must be different buffers. Free for others after this layer. */
  readonly scratchBytes: readonly number[];
  /**
   * Bytes of the transformed weights, 0 if the algorithm takes the packed ones. `conv2dWeights` makes them once; they
   * depend on `algorithm` and the layer alone, so plans of other shapes may share them.
   */
  readonly weightBytes: number;
  readonly winograd?: WinogradPlan;
}

/** A pixel's row and column share a word in shaders/gemm.wgsl. */
const MAX_SIDE = 65_533;

/**
 * Chooses the algorithm; see `chooseAlgorithm`. `algorithm` overrules it, for tests and measurements.
 * @throws VGGNetError `INVALID_SHAPE` for an image of more than 65,533 pixels along a side
 */
export function planConv2d(
  shape: Conv2dShape,
  fused: Fused,
  caps: Capabilities,
  algorithm: Algorithm = chooseAlgorithm(shape, fused, caps),
): Conv2dPlan {
  const { h, w } = shape;
  if (h > MAX_SIDE || w > MAX_SIDE) {
    throw new VGGNetError('INVALID_SHAPE', `Expected at most ${MAX_SIDE} pixels along a side on WebGPU, got ${h}×${w}`);
  }
  const base = {
    algorithm,
    shape,
    fused,
    outputHeight: fused.pool ? Math.floor(h / 2) : h,
    outputWidth: fused.pool ? Math.floor(w / 2) : w,
  };
  if (algorithm === 'direct') return { ...base, scratchBytes: [], weightBytes: 0 };
  const plan = planWinograd(shape, algorithm === 'winograd4' ? 4 : 2, caps);
  return { ...base, scratchBytes: plan.scratchBytes, weightBytes: plan.weightBytes, winograd: plan };
}

/** Packed weights → the transformed ones that the plan's algorithm takes; none for 'direct'. */
export function conv2dWeights(
  plan: Conv2dPlan,
  { packed, transformed }: { packed: BufferView; transformed: BufferView },
): Dispatch[] {
  return plan.winograd ? winogradWeights(plan.winograd, { packed, transformed }) : [];
}

/**
 * Activation (N, H, W, C) → activation (N, outputHeight, outputWidth, OC): 3×3, stride 1, padding 1.
 * `weight` are the packed weights, or with `plan.weightBytes` the transformed ones; `scratch` as `plan.scratchBytes`.
 */
export function conv2d(
  plan: Conv2dPlan,
  views: {
    input: BufferView;
    weight: BufferView;
    bias: BufferView;
    scale?: BufferView | undefined;
    output: BufferView;
    scratch?: readonly BufferView[] | undefined;
  },
): Dispatch[] {
  const { shape, fused, outputHeight, outputWidth } = plan;
  const { n, h, w, inChannels, outChannels, f16 } = shape;
  const { input, weight, bias, scale = bias, output, scratch = [] } = views;
  if (plan.winograd) return winograd(plan.winograd, fused, { input, weight, bias, scale, output, scratch });
  const m = fused.pool ? n * outputHeight * outputWidth * 4 : n * h * w;
  const c4 = padded(inChannels) / 4;
  const n4 = padded(outChannels) / 4;
  return [
    gemm({
      label: 'conv2d',
      form: 'conv',
      tile: gemmTile(m, n4 * 4, 1),
      batch: 1,
      m,
      n4,
      k4: 9 * c4,
      kStep: 0,
      strides: [0, 0, 0],
      rows: 0,
      firstColumn: 0,
      columns: outChannels,
      yPitch: n4,
      f16,
      bias: true,
      scale: fused.batchNorm,
      relu: fused.relu,
      pool: fused.pool,
      image: { h, w, c4 },
      views: { a: input, b: weight, bias, scale, y: output },
    }),
  ];
}
