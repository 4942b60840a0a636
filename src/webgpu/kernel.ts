/*
 * The contract between the kernels (shaders/, ops/) and the rest of this folder, which owns the device and its memory.
 * An operation returns the dispatches and their buffers; the rest makes pipelines, buffers and command buffers.
 */

/** A compute pipeline: an entry point in shaders/ with its override constants. Equal specs share a pipeline. */
export interface PipelineSpec {
  /** The file's base name. */
  readonly shader: string;
  readonly entryPoint: string;
  readonly constants: Readonly<Record<string, number>>;
}

/** Part of a buffer, in bytes. The offset is a multiple of 256. */
export interface BufferView {
  readonly buffer: GPUBuffer;
  readonly offset: number;
  readonly size: number;
}

/** A dispatch of a compute pass. */
export interface Dispatch {
  readonly label: string;
  readonly pipeline: PipelineSpec;
  /** `@group(0) @binding(i)`: storage buffers in the shader's order. */
  readonly bindings: readonly BufferView[];
  /** The uniform `@group(0) @binding(bindings.length)` as 32-bit words, written when a plan is prepared. */
  readonly params: Uint32Array;
  readonly workgroups: readonly [number, number, number];
}

/** The limits of a device by which work is partitioned. */
export type Limits = Pick<
  GPUSupportedLimits,
  'maxBufferSize' | 'maxStorageBufferBindingSize' | 'maxTextureDimension2D'
>;

/** The limits and features of the device, as granted. */
export interface Capabilities {
  readonly limits: Limits;
  /** Half-precision types in shaders (`shader-f16`). */
  readonly f16: boolean;
  /**
   * Subgroup operations (`subgroups`) with at least 16 lanes (`adapterInfo.subgroupMinSize`): with the 4 lanes of a
   * software adapter, a kernel that works by subgroups is slower.
   */
  readonly subgroups: boolean;
}
