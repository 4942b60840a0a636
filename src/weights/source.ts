import type { ParameterChunk } from '../backend.js';
import { VGGNetError } from '../errors.js';
import type { Precision } from '../program/precision.js';
import { isBatchCount, isFloatDtype } from './dtype.js';
import { quoteName } from './safetensors/header.js';

/**
 * One tensor of a weights file: its name there, shape, and dtype as safetensors spells it. A source may give
 * torchvision's name where the file has none that says which tensor it is.
 */
export interface WeightEntry {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: string;
}

/** How a weight is stored that is given as float32. */
export interface StoredPrecision {
  readonly precision: Precision;
  /** `inputRange` of a convolution. */
  readonly inputRange?: number | undefined;
}

/**
 * Named tensors that can be read once, in order. What is in it is known before any value is read,
 * so that a file of another network is refused before it is loaded.
 */
export interface WeightSource {
  /** In the order in which `chunks` gives them, where that is known before they are read. */
  readonly entries: readonly WeightEntry[];
  /** Free text that came with the tensors. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Low-precision weights by their tensor's name. */
  readonly stored?: ReadonlyMap<string, StoredPrecision>;
  /**
   * The values of the tensors named in `wanted`, converted to float32, in chunks of at most a few MiB;
   * the others are passed over.
   */
  chunks(wanted: ReadonlySet<string>, signal?: AbortSignal): AsyncIterable<ParameterChunk>;
  /** Closes the file or cancels the stream. May be called twice, also instead of reading to the end. */
  close(): Promise<void>;
}

/**
 * Checks what a caller of `chunks` wants before anything is read.
 * @throws VGGNetError `INVALID_ARGUMENT` for a tensor that is not there; `INVALID_DTYPE`
 */
export function checkWanted(
  entries: readonly WeightEntry[],
  wanted: ReadonlySet<string>,
  label: string,
  isReadable: (dtype: string) => boolean = isFloatDtype,
): void {
  const names = new Set(entries.map((entry) => entry.name));
  for (const name of wanted) {
    if (!names.has(name)) throw new VGGNetError('INVALID_ARGUMENT', `${label} has no tensor ${quoteName(name)}`);
  }
  for (const { name, dtype } of entries) {
    if (wanted.has(name) && !isBatchCount(name) && !isReadable(dtype)) checkDtype(name, dtype);
  }
}

/** @throws VGGNetError `INVALID_DTYPE` that names the tensor */
export function checkDtype(name: string, dtype: string): void {
  if (isFloatDtype(dtype)) return;
  throw new VGGNetError('INVALID_DTYPE', `Tensor ${quoteName(name)}: expected F32, F16, BF16 or F64, got ${dtype}`);
}
