import { VGGNetError } from '../../errors.js';
import type { BufferView, Dispatch, PipelineSpec } from '../kernel.js';

/*
 * What all operations share. An activation is (N, H, W, CP) float32, where CP is C rounded up to a multiple of 4; the
 * padding channels hold zeros. Rows (N, F) are activations with H = W = 1.
 */

/** Every device grants this many workgroups in a dimension; the rest go into the second dimension. */
const MAX_WORKGROUPS = 65_535;
/** `@workgroup_size` of the entry points that `perVector` dispatches. */
const WORKGROUP_SIZE = 64;

/** Channels, or features of a row, as stored: rounded up to a multiple of 4. */
export function padded(count: number): number {
  return Math.ceil(count / 4) * 4;
}

/**
 * Folds a count of workgroups into two dimensions. Shaders compute `id.y * num_workgroups.x + id.x` and skip the
 * workgroups past the count.
 */
export function foldWorkgroups(count: number, z = 1): readonly [number, number, number] {
  const y = Math.ceil(count / MAX_WORKGROUPS);
  return [Math.ceil(count / y), y, z];
}

/** A dispatch with one thread for each of `count` values, or vectors of four values. */
export function perVector(
  label: string,
  pipeline: PipelineSpec,
  count: number,
  bindings: readonly BufferView[],
  params: Uint32Array,
): Dispatch {
  return { label, pipeline, bindings, params, workgroups: foldWorkgroups(Math.ceil(count / WORKGROUP_SIZE)) };
}

/** The names in a list of fields: of 'count scale:f32' they are 'count' and 'scale'. */
type FieldName<Fields extends string> = Fields extends `${infer First} ${infer Rest}`
  ? FieldName<First> | FieldName<Rest>
  : Fields extends `${infer Name}:f32`
    ? Name
    : Fields;

/**
 * The words of a uniform, written by field name. A field that is left out is 0, for entry points that do not read it.
 * @param fields the names in the order of the WGSL struct, separated by spaces, u32 unless they end in ':f32';
 * test/webgpu/uniforms.test.ts compares them with the shader
 * @throws VGGNetError `OUT_OF_MEMORY` if a value needs more than 32 bits, since an index would wrap around in a shader
 */
export function uniformWords<Fields extends string>(
  fields: Fields,
  values: Readonly<Partial<Record<FieldName<Fields>, number | boolean>>>,
): Uint32Array {
  const names = fields.split(' ');
  const words = new Uint32Array(names.length);
  for (const [i, field] of names.entries()) {
    const [name, type] = field.split(':');
    const value = Number(values[name as FieldName<Fields>] ?? 0);
    if (type) {
      new Float32Array(words.buffer)[i] = value;
    } else if (value >= 0 && value < 2 ** 32) {
      words[i] = value;
    } else {
      throw new VGGNetError('OUT_OF_MEMORY', `A tensor is too large for 32-bit indices: ${value} elements`);
    }
  }
  return words;
}

/** A boolean as an override constant. */
export function flag(value: boolean): number {
  return value ? 1 : 0;
}
