import { VGGNetError } from '../../errors.js';
import type { Layer } from '../../program/layers.js';
import type { BufferView, Capabilities, Dispatch } from '../kernel.js';
import { flag, padded, perVector, uniformWords } from './dispatch.js';

/*
 * How parameters lie in GPU memory.
 *   conv weight (OC, C, 3, 3) → [3][3][CP][OCP]: a row of the second factor of the product is one tap of one channel
 *   linear weight (M, K)      → [M][KP]: rows as in the file, padded to 16 bytes; split by rows into shards
 *   vectors                   → [CP], always float32
 * CP and OCP are C and OC rounded up to a multiple of 4, with zeros. Buffers must be zero before packing; new ones are.
 * Weights are float32, or float16 (two to a word, rounded to nearest, ties to even) if the precision is 'fp16'.
 */

/** `Params` of shaders/pack.wgsl. */
export const PACK_PARAMS = 'first count at columns pitch rows';

export interface Shard {
  /** Output rows of a linear weight, up to but not including `to`; all rows of any other parameter. */
  readonly from: number;
  readonly to: number;
  readonly bytes: number;
}

export interface PackedLayout {
  readonly kind: 'conv' | 'rows';
  readonly f16: boolean;
  /** conv: outChannels and inChannels. rows: the count of rows, and the values of a row. */
  readonly rows: number;
  readonly columns: number;
  /** Values of a row as stored. */
  readonly pitch: number;
  /** One buffer each. */
  readonly shards: readonly Shard[];
}

/** Consecutive values of a parameter, row-major, in a buffer of float32. */
export interface Piece {
  /** Index of the first value within the parameter. */
  readonly offset: number;
  readonly count: number;
  readonly values: BufferView;
}

/**
 * @param key `weight`, `bias`, `running_mean`, `running_var`
 * @throws VGGNetError `OUT_OF_MEMORY` if the parameter is too large for the device's buffers, even when it is split
 */
export function packedLayout(layer: Layer, key: string, caps: Capabilities): PackedLayout {
  const f16 = 'precision' in layer && layer.precision === 'fp16';
  const limit = Math.min(caps.limits.maxStorageBufferBindingSize, caps.limits.maxBufferSize);
  if (layer.op === 'conv2d' && key === 'weight') {
    const { outChannels: rows, inChannels: columns } = layer;
    const bytes = align(9 * padded(columns) * padded(rows) * (f16 ? 2 : 4));
    if (bytes > limit) throw tooLarge(layer.name, bytes, limit);
    return { kind: 'conv', f16, rows, columns, pitch: padded(columns), shards: [{ from: 0, to: rows, bytes }] };
  }
  if (layer.op === 'linear' && key === 'weight') {
    const { outFeatures: rows, inFeatures: columns } = layer;
    const pitch = f16 ? Math.ceil(columns / 8) * 8 : padded(columns);
    const rowBytes = pitch * (f16 ? 2 : 4);
    // A multiple of 4, so that shards write whole vectors of the output.
    const maxRows = Math.floor(limit / rowBytes / 4) * 4;
    if (maxRows < 1) throw tooLarge(layer.name, 4 * rowBytes, limit);
    const count = Math.ceil(rows / maxRows);
    const size = padded(Math.ceil(rows / count));
    const shards: Shard[] = [];
    for (let from = 0; from < rows; from += size) {
      const to = Math.min(rows, from + size);
      shards.push({ from, to, bytes: (to - from) * rowBytes });
    }
    return { kind: 'rows', f16, rows, columns, pitch, shards };
  }
  const columns =
    layer.op === 'conv2d' ? layer.outChannels : layer.op === 'linear' ? layer.outFeatures : channels(layer);
  const pitch = padded(columns);
  return { kind: 'rows', f16: false, rows: 1, columns, pitch, shards: [{ from: 0, to: 1, bytes: pitch * 4 }] };
}

/** Packs a piece of a parameter; `shards` has a buffer for each shard of the layout. */
export function packPiece(layout: PackedLayout, piece: Piece, shards: readonly BufferView[]): Dispatch[] {
  return scatter('pack', layout, piece, shards);
}

/** Unpacks a piece of a parameter to `values`: as it came, or rounded to float16. */
export function unpackPiece(layout: PackedLayout, piece: Piece, shards: readonly BufferView[]): Dispatch[] {
  return scatter('unpack', layout, piece, shards);
}

function scatter(
  entryPoint: 'pack' | 'unpack',
  { kind, f16, rows, columns, pitch, shards }: PackedLayout,
  { offset, count, values }: Piece,
  views: readonly BufferView[],
): Dispatch[] {
  const rowSize = kind === 'conv' ? columns * 9 : columns;
  const pipeline = {
    shader: 'pack',
    entryPoint: f16 ? `${entryPoint}F16` : entryPoint,
    constants: { CONV: flag(kind === 'conv') },
  };
  const dispatches: Dispatch[] = [];
  for (const [i, { from, to }] of shards.entries()) {
    const start = Math.max(offset, from * rowSize);
    const end = Math.min(offset + count, to * rowSize);
    if (start >= end) continue;
    const view = views[i] as BufferView;
    const params = uniformWords(PACK_PARAMS, {
      first: start - from * rowSize,
      count: end - start,
      at: start - offset,
      columns,
      pitch,
      rows: padded(rows),
    });
    dispatches.push(perVector(entryPoint, pipeline, end - start, [values, view], params));
  }
  return dispatches;
}

function channels(layer: Layer): number {
  if (layer.op === 'batchNorm2d') return layer.channels;
  throw new VGGNetError('INVALID_ARGUMENT', `${layer.name} has no parameters`);
}

function tooLarge(name: string, bytes: number, limit: number): VGGNetError {
  return new VGGNetError(
    'OUT_OF_MEMORY',
    `${name}: the weights need ${bytes} bytes even when split, and this device binds at most ${limit}`,
  );
}

const align = (bytes: number): number => Math.ceil(bytes / 16) * 16;
