import type { WeightsInput } from './bytes/bytes.js';
import { openWeights } from './open.js';
import type { OpenOptions } from './safetensors/open.js';
import type { WeightSource } from './source.js';

/** Bytes in memory are kept for another reading up to this size; a model is not to be held twice. */
const MOST_KEPT = 16 * 2 ** 20;

/** Opens weights once more, as for a device that takes a lost one's place; undefined where they can't be read again. */
export type Reopen = () => Promise<WeightSource>;

/** Files, URLs and Blobs can be read again, and so can a few bytes; a stream or response can't. */
export function reopener(input: WeightsInput, { key, externalData }: OpenOptions = {}): Reopen | undefined {
  const again = (): Promise<WeightSource> => openWeights(input, { key, externalData });
  if (typeof input === 'string' || input instanceof URL) return again;
  if (input instanceof ArrayBuffer || ArrayBuffer.isView(input)) {
    return input.byteLength <= MOST_KEPT ? again : undefined;
  }
  return typeof Blob === 'function' && input instanceof Blob ? again : undefined;
}
