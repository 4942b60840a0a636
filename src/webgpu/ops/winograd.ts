import type { BufferView, Capabilities, Dispatch, PipelineSpec } from '../kernel.js';
import type { Conv2dShape, Fused } from './algorithm.js';
import { flag, padded, perVector, uniformWords } from './dispatch.js';
import { gemm, gemmTile } from './gemm.js';

/*
 * Convolution by Winograd's method, in three dispatches: transform the tiles of the input, multiply over the channels
 * at each point of the transform, transform back and apply the fused layers. See shaders/winograd.wgsl. Many tiles go
 * in turns, so that scratch stays small, and in cache.
 */

/** `Params` of shaders/winograd.wgsl. */
export const WINOGRAD_PARAMS = 'count pairs tiles first across down h w scale relu pool channels';

export interface WinogradPlan {
  readonly shape: Conv2dShape;
  /** Pixels of the output along a tile's side. */
  readonly tile: 2 | 4;
  /** Tiles of the whole batch, and of one turn. */
  readonly tiles: number;
  readonly turn: number;
  /** Of the transformed input and of the products. */
  readonly scratchBytes: readonly [number, number];
  readonly weightBytes: number;
}

/** Bytes of scratch of a turn. */
const MAX_SCRATCH = 64 * 2 ** 20;

export function planWinograd(shape: Conv2dShape, tile: 2 | 4, { limits }: Capabilities): WinogradPlan {
  const { n, h, w, inChannels, outChannels } = shape;
  const points = (tile + 2) ** 2;
  const tiles = n * Math.ceil(h / tile) * Math.ceil(w / tile);
  const channels = Math.max(padded(inChannels), padded(outChannels));
  const limit = Math.min(MAX_SCRATCH / 2, limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const turn = Math.max(1, Math.min(tiles, Math.floor(limit / (points * channels * 4))));
  return {
    shape,
    tile,
    tiles,
    turn,
    scratchBytes: [points * turn * padded(inChannels) * 4, points * turn * padded(outChannels) * 4],
    weightBytes: points * padded(inChannels) * padded(outChannels) * 4,
  };
}

/** Packed weights [3][3][CP][OCP] → transformed ones [points][CP][OCP], float32. */
export function winogradWeights(
  { tile, shape }: WinogradPlan,
  { packed, transformed }: { packed: BufferView; transformed: BufferView },
): Dispatch[] {
  const count = (padded(shape.inChannels) * padded(shape.outChannels)) / 2;
  const pipeline = spec('weights', { TILE: tile, F16: flag(shape.f16) });
  const params = uniformWords(WINOGRAD_PARAMS, { count });
  return [perVector('conv2d weights', pipeline, count, [packed, transformed], params)];
}

export function winograd(
  { shape, tile, tiles, turn }: WinogradPlan,
  fused: Fused,
  views: {
    input: BufferView;
    weight: BufferView;
    bias: BufferView;
    scale: BufferView;
    output: BufferView;
    scratch: readonly BufferView[];
  },
): Dispatch[] {
  const { h, w, inChannels, outChannels } = shape;
  const { input, weight, bias, scale, output } = views;
  const [v, m] = views.scratch as [BufferView, BufferView];
  const [cp, ocp] = [padded(inChannels), padded(outChannels)];
  const [across, down] = [Math.ceil(w / tile), Math.ceil(h / tile)];
  const points = (tile + 2) ** 2;
  const dispatches: Dispatch[] = [];
  for (let first = 0; first < tiles; first += turn) {
    const count = Math.min(turn, tiles - first);
    const geometry = (channels: number) => ({
      count: (count * channels) / 2,
      pairs: channels / 2,
      tiles: count,
      first,
      across,
      down,
      h,
      w,
    });
    const epilogue = { scale: fused.batchNorm, relu: fused.relu, pool: fused.pool, channels: outChannels };
    dispatches.push(
      perVector(
        'conv2d input',
        spec('input', { TILE: tile }),
        (count * cp) / 2,
        [input, v],
        uniformWords(WINOGRAD_PARAMS, geometry(cp)),
      ),
      gemm({
        label: 'conv2d product',
        kind: 'plain',
        tile: gemmTile(count, ocp, points),
        batch: points,
        f16: false,
        m: count,
        n4: ocp / 4,
        k4: cp / 4,
        aStride: (count * cp) / 4,
        bStride: (cp * ocp) / 4,
        yStride: (count * ocp) / 4,
        columns: ocp,
        yPitch: ocp / 4,
        views: { a: v, b: weight, bias, scale: bias, y: m },
      }),
      perVector(
        'conv2d output',
        spec('output', { TILE: tile }),
        (count * ocp) / 2,
        [m, bias, scale, output],
        uniformWords(WINOGRAD_PARAMS, { ...geometry(ocp), ...epilogue }),
      ),
    );
  }
  return dispatches;
}

const spec = (entryPoint: string, constants: Record<string, number>): PipelineSpec => ({
  shader: 'winograd',
  entryPoint,
  constants,
});
