import type { ParameterChunk } from '../backend.js';

/** One tensor of a weights file: its name there, shape, and dtype as safetensors spells it. */
export interface WeightEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
}

/**
 * Named tensors that can be read once, in order. What is in it is known before any value is read,
 * so that a file of another network is refused before it is loaded.
 */
export interface WeightSource {
  /** In the order in which `chunks` gives them. */
  readonly entries: readonly WeightEntry[];
  /** Free text that came with the tensors. */
  readonly metadata: Readonly<Record<string, string>>;
  /**
   * The values of the tensors named in `wanted`, converted to float32, in chunks of at most a few MiB;
   * the others are passed over.
   */
  chunks(wanted: ReadonlySet<string>, signal?: AbortSignal): AsyncIterable<ParameterChunk>;
  /** Closes the file or cancels the stream. May be called twice, also instead of reading to the end. */
  close(): Promise<void>;
}
