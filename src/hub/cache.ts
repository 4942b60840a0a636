import type { CachedFile } from './store.js';
import type { CacheOptions } from './weights.js';

/* The cache of official weights. What downloads and keeps them is loaded when it is needed. */

/**
 * The files of official weights in the cache, with downloads that were cut.
 * @throws VGGNetError `IO` if it can't be read
 */
export async function listCache(options: CacheOptions = {}): Promise<CachedFile[]> {
  const { openStore } = await import('./weights.js');
  return openStore(options).list();
}

/**
 * Deletes all that `listCache` lists, except what is being downloaded right now, and tells what that was. Other files
 * in the folder stay.
 * @throws VGGNetError `IO`
 */
export async function clearCache(options: CacheOptions = {}): Promise<CachedFile[]> {
  const { openStore } = await import('./weights.js');
  return openStore(options).clear();
}
