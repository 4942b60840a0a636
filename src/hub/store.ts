import type { WeightsInput } from '../weights/bytes/bytes.js';
import type { PretrainedFile } from './catalog.js';
import type { Sink } from './sink.js';

/** A file in the cache. */
export interface CachedFile {
  readonly name: string;
  /** Bytes on the disk, where that is known. */
  readonly size: number | undefined;
  /** False for a download that was cut, which the next one goes on with. */
  readonly complete: boolean;
}

/** A cache of downloaded files, which are checked before they are in it. */
export interface WeightStore {
  /** The folder's path, or the name of a cache in Cache Storage. */
  readonly location: string;
  /**
   * Gives a file that can be read as weights: the one that is there, or one that `fill` has made in the meantime. Who
   * asks for the same file at the same time waits.
   * @throws VGGNetError `IO`, `ABORTED`, and as `fill`
   */
  get(
    file: PretrainedFile,
    fill: (sink: Sink) => Promise<void>,
    options: { signal?: AbortSignal | undefined },
  ): Promise<WeightsInput>;
  list(): Promise<CachedFile[]>;
  /** Deletes everything that is not being downloaded right now, and tells what that was. */
  clear(): Promise<CachedFile[]>;
}
