import { VGGNetError } from '../../errors.js';
import type { BufferView, Capabilities, Dispatch } from '../kernel.js';
import { type Algorithm, type Conv2dShape, chooseAlgorithm, type Fused } from './algorithm.js';
import { padded } from './dispatch.js';
import { gemm, gemmTile } from './gemm.js';
import { planWinograd, type WinogradPlan, winograd, winogradWeights } from './winograd.js';

export interface Conv2dPlan {
  readonly algorithm: Algorithm;
  readonly shape: Conv2dShape;
  readonly fused: Fused;
  /** Of the output, after the pool. */
  readonly outputHeight: number;
  readonly outputWidth: number;
  /** Bytes of each scratch buffer; the buffers are distinct, and free for other layers after this one. */
  readonly scratchBytes: readonly number[];
  /**
   * Bytes of the transformed weights; 0 if the algorithm takes the packed ones. `conv2dWeights` makes them once: they
   * depend on the layer and `algorithm` alone, so plans for other input shapes share them.
   */
  readonly weightBytes: number;
  readonly winograd?: WinogradPlan;
}

/** In shaders/gemm.wgsl a pixel's row and column share a word. */
const MAX_SIDE = 65_533;

/**
 * @param algorithm overrules `chooseAlgorithm`, for tests and measurements
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
 * `weight` holds the packed weights, or the transformed ones if `plan.weightBytes` is not 0; `scratch` is as large as
 * `plan.scratchBytes`.
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
      kind: 'conv2d',
      tile: gemmTile(m, n4 * 4, 1),
      batch: 1,
      f16,
      m,
      n4,
      k4: 9 * c4,
      columns: outChannels,
      yPitch: n4,
      scale: fused.batchNorm,
      bias: true,
      relu: fused.relu,
      pool: fused.pool,
      h,
      w,
      c4,
      views: { a: input, b: weight, bias, scale, y: output },
    }),
  ];
}
