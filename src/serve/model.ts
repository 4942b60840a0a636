import type { VGGNet } from '../vgg.js';
import { LATER, RequestError } from './failure.js';

/** A model, or what loads it: called for the first request that needs it, and again after it failed. */
export type ModelSource = VGGNet | (() => Promise<VGGNet>);

/**
 * The model of a source, loaded once for all who ask.
 * @param onError told why a load failed; those who asked are only told that it did
 */
export function loaderOf(source: ModelSource, onError: (error: unknown) => void): () => Promise<VGGNet> {
  if (typeof source !== 'function') return () => Promise.resolve(source);
  let loading: Promise<VGGNet> | undefined;
  return () => {
    loading ??= source().catch((error) => {
      loading = undefined;
      onError(error);
      throw new RequestError(503, 'NOT_LOADED', 'The model could not be loaded', LATER);
    });
    return loading;
  };
}
