import { throwIfAborted, VGGNetError } from '../errors.js';
import { redactUrls } from '../url.js';
import type { WeightsInput } from '../weights/bytes/bytes.js';
import { CacheStorageStore } from './cache-storage.js';
import type { PretrainedFile } from './catalog.js';
import { DirectoryStore, defaultFolder } from './directory.js';
import { type DownloadOptions, download } from './download.js';
import type { LockTimes } from './lock.js';
import { nodeParts } from './node.js';
import type { WeightStore } from './store.js';

export interface CacheOptions {
  /**
   * Where downloaded files are kept: a folder in Node, Deno and Bun, by default `VGGNET_CACHE` or else `vggnet` where
   * the system keeps caches (`~/.cache`, `~/Library/Caches`, `%LOCALAPPDATA%`); in browsers the name of a cache of
   * Cache Storage, by default 'vggnet'.
   */
  cacheDir?: string | undefined;
}

export interface FetchOptions extends CacheOptions, DownloadOptions {
  /**
   * A mirror or server of one's own: it takes the place of the official server's origin, and the path behind it stays.
   * With `https://example.org/mirror`, `https://huggingface.co/timm/…` becomes `https://example.org/mirror/timm/…`.
   */
  baseUrl?: string | URL | undefined;
  /** Of the lock in a folder. */
  lockTimes?: LockTimes | undefined;
}

/**
 * Gives a published file from the cache, or downloads it into the cache first. Nothing is asked of any server while the
 * cache has it.
 * @throws VGGNetError `IO`, `CHECKSUM_MISMATCH`, `INVALID_ARGUMENT`, `ABORTED`; the cache then has no part of a wrong file
 */
export async function fetchWeights(file: PretrainedFile, options: FetchOptions = {}): Promise<WeightsInput> {
  throwIfAborted(options.signal);
  const url = mirrored(file.url, options.baseUrl);
  checkLimits(options);
  const store = openStore(options);
  return store.get(file, (sink) => download(file, url, sink, options), options);
}

/** Where files are kept: a folder, or Cache Storage. */
export function openStore({ cacheDir, lockTimes }: FetchOptions): WeightStore {
  if (cacheDir !== undefined && (typeof cacheDir !== 'string' || cacheDir === '')) {
    throw new VGGNetError('INVALID_ARGUMENT', `cacheDir must be a folder's path, got ${JSON.stringify(cacheDir)}`);
  }
  const node = nodeParts();
  if (node) return new DirectoryStore(node, cacheDir ?? defaultFolder(node), lockTimes);
  const caches: CacheStorage | undefined = globalThis.caches;
  if (caches) return new CacheStorageStore(caches, cacheDir);
  throw new VGGNetError(
    'IO',
    'Nowhere to keep weights: this runtime has no files, and Cache Storage only on pages of https: or localhost. ' +
      'VGGNet.create(name, { weights: url }) loads a file without keeping it',
  );
}

function mirrored(official: string, baseUrl: string | URL | undefined): URL {
  const url = new URL(official);
  if (baseUrl === undefined) return url;
  const text = String(baseUrl);
  const base = URL.canParse(text) ? new URL(text) : undefined;
  if (base?.protocol !== 'https:' && base?.protocol !== 'http:') {
    throw new VGGNetError(
      'INVALID_ARGUMENT',
      `baseUrl must be an http: or https: URL, got '${redactUrls(text).slice(0, 200)}'`,
    );
  }
  // A key may be in the query.
  base.pathname = base.pathname.replace(/\/$/, '') + url.pathname;
  return base;
}

function checkLimits({ retries, stallTimeout, retryDelay }: DownloadOptions): void {
  const check = (option: string, value: number | undefined, least: number, most: number): void => {
    if (value === undefined || (Number.isInteger(value) && value >= least && value <= most)) return;
    const range = `an integer from ${least} to ${most}`;
    throw new VGGNetError('INVALID_ARGUMENT', `${option} must be ${range}, got ${String(value)}`);
  };
  check('retries', retries, 0, 100);
  check('stallTimeout', stallTimeout, 1, 3_600_000);
  check('retryDelay', retryDelay, 0, 60_000);
}
