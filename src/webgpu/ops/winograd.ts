import type { BufferView, Capabilities, Dispatch, PipelineSpec } from '../kernel.js';
import type { Conv2dShape, Fused } from './conv2d.js';
import { each, flag, padded } from './dispatch.js';
import { gemm, gemmTile } from './gemm.js';

/*
 * Convolution by Winograd's method, in three dispatches: tiles of the input are transformed, each point of the
 * transform is a product over the channels, and the sums are transformed back with what is fused. See
 * shaders/winograd.wgsl. Where there are many tiles they go in turns, so that scratch stays small, and in cache.
 */

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

/** What a turn's scratch may take. */
const SCRATCH = 64 * 2 ** 20;

export function planWinograd(shape: Conv2dShape, tile: 2 | 4, { limits }: Capabilities): WinogradPlan {
  const { n, h, w, inChannels, outChannels } = shape;
  const points = (tile + 2) ** 2;
  const tiles = n * Math.ceil(h / tile) * Math.ceil(w / tile);
  const most = Math.max(padded(inChannels), padded(outChannels));
  const limit = Math.min(SCRATCH / 2, limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const turn = Math.max(1, Math.min(tiles, Math.floor(limit / (points * most * 4))));
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
  return [each('conv2d weights', pipeline, count, [packed, transformed], [count])];
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
  const epilogue = [flag(fused.batchNorm), flag(fused.relu), flag(fused.pool), outChannels];
  const dispatches: Dispatch[] = [];
  for (let first = 0; first < tiles; first += turn) {
    const count = Math.min(turn, tiles - first);
    const geometry = (channels: number): number[] => [
      (count * channels) / 2,
      channels / 2,
      count,
      first,
      across,
      down,
      h,
      w,
    ];
    dispatches.push(
      each('conv2d input', spec('input', { TILE: tile }), (count * cp) / 2, [input, v], [...geometry(cp), 0, 0, 0, 0]),
      gemm({
        label: 'conv2d product',
        form: 'plain',
        tile: gemmTile(count, ocp, points),
        batch: points,
        m: count,
        n4: ocp / 4,
        k4: cp / 4,
        kStep: 0,
        strides: [(count * cp) / 4, (cp * ocp) / 4, (count * ocp) / 4],
        rows: 0,
        firstColumn: 0,
        columns: ocp,
        yPitch: ocp / 4,
        f16: false,
        bias: false,
        scale: false,
        relu: false,
        pool: false,
        views: { a: v, b: weight, bias, scale: bias, y: m },
      }),
      each(
        'conv2d output',
        spec('output', { TILE: tile }),
        (count * ocp) / 2,
        [m, bias, scale, output],
        [...geometry(ocp), ...epilogue],
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
