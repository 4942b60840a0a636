import type { BatchNorm2d } from '../../program/layers.js';
import type { BufferView, Dispatch, PipelineSpec } from '../kernel.js';
import { flag, foldWorkgroups, padded, perVector, uniformWords } from './dispatch.js';
import type { Activation } from './elementwise.js';

/** The packed parameters (vectors of C values, padded to a multiple of 4 with zeros). */
export interface BatchNormViews {
  readonly weight: BufferView;
  readonly bias: BufferView;
  readonly runningMean: BufferView;
  readonly runningVar: BufferView;
}

/** `Params` of shaders/batchnorm2d.wgsl. */
export const BATCHNORM2D_PARAMS = 'count c4 blocks relu eps:f32 momentum:f32';

/** Pixels that one workgroup adds up. */
const BLOCK = 512;
/** Vectors of four channels that one workgroup takes. */
const COLUMNS = 8;

/** `eps` is added to the variance; `momentum` is how far the running statistics move towards the batch's. */
type Constants = Pick<BatchNorm2d, 'eps' | 'momentum'>;

/** Activation → the same shape, normalized by the running statistics, then an optional ReLU. */
export function batchNorm2d(
  shape: Activation,
  { input, output, weight, bias, runningMean, runningVar }: BatchNormViews & { input: BufferView; output: BufferView },
  { relu, ...constants }: { relu: boolean } & Constants,
): Dispatch[] {
  return [normalize(shape, { relu, ...constants }, [input, runningMean, runningVar, weight, bias, output])];
}

/** Bytes of scratch that `batchNorm2dTrain` needs. */
export function batchNorm2dScratchBytes({ n, h, w, c }: Activation): number {
  const vector = align(padded(c) * 4);
  return 2 * vector + Math.ceil((n * h * w) / BLOCK) * padded(c) * 4;
}

/**
 * Activation → the same shape, normalized by the batch's mean and biased variance. The running statistics move
 * towards the batch's, as in the reference backend. Two passes: the mean, then the squares around it.
 * n · h · w must be at least 2, which the caller checks.
 */
export function batchNorm2dTrain(
  shape: Activation,
  views: BatchNormViews & { input: BufferView; output: BufferView; scratch: BufferView },
  { relu, ...constants }: { relu: boolean } & Constants,
): Dispatch[] {
  const { n, h, w, c } = shape;
  const { input, output, weight, bias, runningMean, runningVar, scratch } = views;
  const pixels = n * h * w;
  const blocks = Math.ceil(pixels / BLOCK);
  const c4 = padded(c) / 4;
  const vector = align(c4 * 16);
  const part = (offset: number, size: number): BufferView => ({
    buffer: scratch.buffer,
    offset: scratch.offset + offset,
    size,
  });
  const mean = part(0, c4 * 16);
  const variance = part(vector, c4 * 16);
  const partial = part(2 * vector, blocks * c4 * 16);
  const params = uniformWords(BATCHNORM2D_PARAMS, { count: pixels, c4, blocks, ...constants });
  const pass = (squares: boolean): Dispatch[] => [
    {
      label: squares ? 'batchNorm2d squares' : 'batchNorm2d sums',
      pipeline: spec('sums', { SQUARES: flag(squares) }),
      bindings: [input, mean, partial],
      params,
      workgroups: foldWorkgroups(blocks, Math.ceil(c4 / COLUMNS)),
    },
    perVector(
      squares ? 'batchNorm2d variance' : 'batchNorm2d mean',
      spec('statistics', { SQUARES: flag(squares) }),
      c4,
      [partial, squares ? variance : mean, squares ? runningVar : runningMean],
      params,
    ),
  ];
  return [
    ...pass(false),
    ...pass(true),
    normalize(shape, { relu, ...constants }, [input, mean, variance, weight, bias, output]),
  ];
}

/**
 * The factor and addend of a convolution with the batch norm after it folded in:
 * scale = weight / √(var + eps), shift = (convBias − mean) · scale + bias. Both are vectors of padded(channels) values.
 */
export function foldBatchNorm(
  { channels, eps }: Pick<BatchNorm2d, 'channels' | 'eps'>,
  views: BatchNormViews & { convBias: BufferView; scale: BufferView; shift: BufferView },
): Dispatch[] {
  const { convBias, runningMean, runningVar, weight, bias, scale, shift } = views;
  const bindings = [convBias, runningMean, runningVar, weight, bias, scale, shift];
  const count = padded(channels) / 4;
  return [
    perVector('batchNorm2d fold', spec('fold', {}), count, bindings, uniformWords(BATCHNORM2D_PARAMS, { count, eps })),
  ];
}

function normalize(
  { n, h, w, c }: Activation,
  constants: { relu: boolean } & Constants,
  bindings: readonly BufferView[],
): Dispatch {
  const c4 = padded(c) / 4;
  const count = n * h * w * c4;
  const params = uniformWords(BATCHNORM2D_PARAMS, { count, c4, ...constants });
  return perVector('batchNorm2d', spec('normalize', {}), count, bindings, params);
}

const spec = (entryPoint: string, constants: Record<string, number>): PipelineSpec => ({
  shader: 'batchnorm2d',
  entryPoint,
  constants,
});
const align = (bytes: number): number => Math.ceil(bytes / 256) * 256;
