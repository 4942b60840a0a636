import { VGGNetError } from '../errors.js';
import type { VGGNet } from '../model.js';
import { LATER, RequestError } from './failure.js';

/**
 * A model, or what loads it: called for the first request that needs it, and again after it failed, or after a crash that
 * took the weights along.
 */
export type ModelSource = VGGNet | (() => Promise<VGGNet>);

/** The model of a source, loaded once for all who ask. */
export interface Loader {
  readonly load: () => Promise<VGGNet>;
  /** True when `load` has nothing to wait for. */
  readonly isLoaded: () => boolean;
  /** A forward of this model failed: if it cannot work again, the next who asks gets another. */
  readonly failed: (model: VGGNet, error: unknown) => void;
}

/** @param onError told why a load failed; those who asked are only told that it did */
export function loaderOf(source: ModelSource, onError: (error: unknown) => void): Loader {
  if (typeof source !== 'function') {
    return { load: () => Promise.resolve(source), isLoaded: () => true, failed() {} };
  }
  let loading: Promise<VGGNet> | undefined;
  let loaded = false;
  const forget = (): void => {
    loading = undefined;
    loaded = false;
  };
  const start = async (): Promise<VGGNet> => {
    try {
      const model = await source();
      loaded = true;
      return model;
    } catch (error) {
      forget();
      onError(error);
      throw new RequestError(503, 'NOT_LOADED', 'The model could not be loaded', LATER);
    }
  };
  return {
    load() {
      loading ??= start();
      return loading;
    },
    isLoaded: () => loaded,
    failed({ device }, error) {
      // The weights of one with several threads outlive its workers.
      if (isCrash(error) && device.threads === 1) forget();
    },
  };
}

/** True if a worker ended, or a kernel failed in it. */
function isCrash(error: unknown): boolean {
  return error instanceof VGGNetError && error.code === 'WORKER_CRASHED';
}
