/*
 * What is measured, as data: the parent process plans it, and any runtime (a process, a browser's page) can do it.
 */

/** The parts of the suite, in the order in which they run. */
export const LEVELS = [
  'kernels',
  'layers',
  'networks',
  'backends',
  'runtimes',
  'peers',
  'load',
  'weights',
  'scaling',
  'webgpu',
  'webgpu-full',
] as const;
export type Level = (typeof LEVELS)[number];

/** Parts that run only if they are asked for: they take longer than all the others. */
export const ON_REQUEST: readonly Level[] = ['webgpu-full'];

export type SystemName = 'vggnet' | 'onnxruntime-web' | 'onnxruntime-node' | 'tfjs' | 'kernels' | 'reader';

export type PrecisionName = 'fp16' | 'int8' | 'int8-int4';

export type WeightFormat = 'safetensors' | 'onnx' | 'pth';

export type BackendName = 'wasm' | 'webgpu' | 'native' | 'reference';

/** One system with one network and one input. It is plain JSON. */
export interface Job {
  readonly system: SystemName;
  readonly backend: BackendName;
  /** A kernel build that the system must take, or else the job can't be done. */
  readonly build?: 'simd' | 'relaxed-simd';
  readonly threads: number;
  /** Of the library's weights: default 'fp32'. `int8-int4` has linear layers in int4. */
  readonly precision?: PrecisionName;
  /** Of the library: true if the file has the weights in this precision already. */
  readonly stored?: boolean;
  /** Of the library: its options. */
  readonly inline?: boolean;
  readonly memoryLimit?: number;
  /** Of the library and its reader: default 'safetensors'. */
  readonly format?: WeightFormat;
  /** A name that the library knows; weights are those of the tests' generator. */
  readonly model: string;
  readonly batch: number;
  /** Side of the square input. */
  readonly size: number;
  /** Where the parent or a server has put the files: paths for processes, URLs for pages. */
  readonly files: JobFiles;
}

export interface JobFiles {
  /** The library's entry, `dist/index.js`, as a URL. */
  readonly library: string;
  readonly safetensors: string;
  readonly onnx: string;
  readonly pth: string;
  /** Folder of kernel builds, and of the suite's own (limits-*.wasm). */
  readonly kernels: string;
  readonly limits: string;
}

/** What a system says of itself once it is loaded. */
export interface SystemInfo {
  readonly version: string;
  /** Kernel build, execution provider or the like. */
  readonly build: string;
  /** The threads that it really uses. */
  readonly threads: number;
  /** Of WebGPU: the adapter by its own words, and if it computes on the CPU. */
  readonly adapter?: string;
}

/** A run by layer: fused layers are one entry under the last one's name. */
export interface Profile {
  readonly layers: readonly { readonly name: string; readonly ms: number; readonly macs: number }[];
  readonly totalMs: number;
}

/** Why a row can't be measured here. It becomes the row's `skipped`; every other error is one too, with its message. */
export class Unavailable extends Error {
  override readonly name = 'Unavailable';
}
