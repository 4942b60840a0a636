import { VGGNetError } from '../../errors.js';
import type { BufferView, Dispatch, PipelineSpec } from '../kernel.js';

/*
 * What every operation shares. An activation is (N, H, W, CP) float32 in memory, CP being C rounded up to a
 * multiple of 4, and the channels that are not there hold zeros. Rows (N, F) are the same with H = W = 1.
 */

/** Workgroups a dimension, the least that every device grants; more go into the second dimension. */
const MAX_GROUPS = 65_535;
/** Threads of a workgroup in the shaders that go over values one by one; see `SIZE` there. */
const THREADS = 64;

/** Channels, or features of a row, as stored: rounded up to a multiple of 4. */
export function padded(count: number): number {
  return Math.ceil(count / 4) * 4;
}

/**
 * Folds a count of workgroups into two dimensions; shaders undo it by `id.y * num_workgroups.x + id.x` and leave
 * out what is over.
 */
export function fold(groups: number, z = 1): readonly [number, number, number] {
  const y = Math.ceil(groups / MAX_GROUPS);
  return [Math.ceil(groups / y), y, z];
}

/** A dispatch with one thread for each of `count` items. */
export function each(
  label: string,
  pipeline: PipelineSpec,
  count: number,
  bindings: readonly BufferView[],
  params: readonly number[],
): Dispatch {
  return { label, pipeline, bindings, params: words(params), workgroups: fold(Math.ceil(count / THREADS)) };
}

/**
 * Numbers as the 32-bit words of a uniform.
 * @throws VGGNetError `OUT_OF_MEMORY` if one does not fit, so that an index can't wrap around in a shader
 */
export function words(values: readonly number[]): Uint32Array {
  for (const value of values) {
    if (!(value >= 0 && value < 2 ** 32)) {
      throw new VGGNetError('OUT_OF_MEMORY', `A tensor is too large for 32-bit indices: ${value} elements`);
    }
  }
  return Uint32Array.from(values);
}

/** The bits of a float32, for a uniform. */
export function floatBits(value: number): number {
  return new Uint32Array(Float32Array.of(value).buffer)[0] as number;
}

/** True as an override constant. */
export function flag(value: boolean): number {
  return value ? 1 : 0;
}
