/*
 * The contract between the kernels (shaders/, ops/) and the engine that owns the device and the memory.
 * Kernels say what to dispatch over which buffers; the engine makes pipelines, buffers and command buffers.
 */

/** A compute pipeline: an entry point of a file in shaders/ with its override constants. Equal specs share a pipeline. */
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

/** One dispatch of a pass. */
export interface Dispatch {
  readonly label: string;
  readonly pipeline: PipelineSpec;
  /** `@group(0) @binding(i)`, storage buffers in the shader's order. */
  readonly bindings: readonly BufferView[];
  /** The uniform `@group(0) @binding(bindings.length)`: 32-bit words, written once when a plan is made. */
  readonly params: Uint32Array;
  readonly workgroups: readonly [number, number, number];
}

/** Those of a device's limits that decide how work is cut. */
export type Limits = Pick<
  GPUSupportedLimits,
  'maxBufferSize' | 'maxStorageBufferBindingSize' | 'maxTextureDimension2D'
>;

/** What the kernels may count on: the device's limits and features, as granted. */
export interface Capabilities {
  readonly limits: Limits;
  /** Half-precision types in shaders (`shader-f16`). */
  readonly f16: boolean;
  /**
   * Subgroup operations (`subgroups`), with 16 lanes or more (`adapterInfo.subgroupMinSize`): a kernel that gives a
   * subgroup work of its own loses with the 4 lanes of a software adapter.
   */
  readonly subgroups: boolean;
}
