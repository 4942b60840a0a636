import { abortable } from '../abort.js';
import { VGGNetError } from '../errors.js';
import { reasonOf } from '../url.js';
import type { PretrainedFile } from './catalog.js';
import type { Origin, Sink } from './sink.js';
import type { CachedFile, WeightStore } from './store.js';

const NAME_HEADER = 'x-vggnet-name';

/**
 * A cache in a browser's Cache Storage. A response is in it only when its body has come whole and is the right one, for
 * the stream that brings it ends with an error otherwise. So an entry is never half a file, and needs no second look.
 */
export class CacheStorageStore implements WeightStore {
  readonly location: string;
  readonly #caches: CacheStorage;

  constructor(caches: CacheStorage, name = 'vggnet') {
    this.#caches = caches;
    this.location = name;
  }

  get #label(): string {
    return `the browser's cache '${this.location}'`;
  }

  async get(
    file: PretrainedFile,
    fill: (sink: Sink) => Promise<void>,
    { signal }: { signal?: AbortSignal | undefined },
  ): Promise<Response> {
    const cache = await this.#open();
    const found = await this.#guard(cache.match(keyOf(file)));
    if (found) return found;
    return exclusive(`vggnet:${this.location}:${file.name}`, signal, async () => {
      const finished = await this.#guard(cache.match(keyOf(file)));
      if (finished) return finished;
      await fill(new CacheSink(cache, file, this.#label));
      const response = await this.#guard(cache.match(keyOf(file)));
      if (!response) throw new VGGNetError('IO', `${this.#label} does not have '${file.name}', which was put there`);
      return response;
    });
  }

  async list(): Promise<CachedFile[]> {
    return (await this.#entries(await this.#open())).map(({ file }) => file);
  }

  async clear(): Promise<CachedFile[]> {
    const cache = await this.#open();
    const entries = await this.#entries(cache);
    for (const { request } of entries) await this.#guard(cache.delete(request));
    return entries.map(({ file }) => file);
  }

  /** Those of this library: the cache may have others. */
  async #entries(cache: Cache): Promise<{ request: Request; file: CachedFile }[]> {
    const entries: { request: Request; file: CachedFile }[] = [];
    for (const request of await this.#guard(cache.keys())) {
      const response = await this.#guard(cache.match(request));
      const name = response?.headers.get(NAME_HEADER);
      if (!response || !name) continue;
      const length = response.headers.get('content-length');
      const size = length === null ? undefined : Number(length);
      entries.push({ request, file: { name, size, complete: true } });
    }
    return entries.sort((a, b) => (a.file.name < b.file.name ? -1 : 1));
  }

  #open(): Promise<Cache> {
    return this.#guard(this.#caches.open(this.location));
  }

  async #guard<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (cause) {
      throw new VGGNetError('IO', `Could not use ${this.#label}: ${reasonOf(cause)}`, { cause });
    }
  }
}

/** The digest is part of the key: when the published file changes, so does its entry. */
function keyOf(file: PretrainedFile): string {
  const url = new URL(file.url);
  url.hash = '';
  url.searchParams.set('sha256', file.sha256);
  return url.href;
}

/** One tab downloads a file and the others wait, where there are locks. */
function exclusive<T>(name: string, signal: AbortSignal | undefined, work: () => Promise<T>): Promise<T> {
  const locks: LockManager | undefined = globalThis.navigator?.locks;
  if (!locks) return work();
  const held = locks.request(name, signal ? { signal } : {}, work) as Promise<T>;
  return abortable(held, signal);
}

class CacheSink implements Sink {
  readonly kept = 0;
  readonly origin: undefined = undefined;
  readonly #cache: Cache;
  readonly #file: PretrainedFile;
  readonly #label: string;
  #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>> | undefined;
  /** The error that ended it, or undefined. */
  #stored: Promise<unknown> = Promise.resolve(undefined);

  constructor(cache: Cache, file: PretrainedFile, label: string) {
    this.#cache = cache;
    this.#file = file;
    this.#label = label;
  }

  replay(): Promise<void> {
    return Promise.resolve();
  }

  async begin({ total }: Origin): Promise<void> {
    await this.discard();
    const { readable, writable } = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>();
    this.#writer = writable.getWriter();
    const headers = new Headers({ 'content-type': 'application/octet-stream', [NAME_HEADER]: this.#file.name });
    const length = this.#file.size ?? total;
    if (length !== undefined) headers.set('content-length', String(length));
    const put = this.#cache.put(keyOf(this.#file), new Response(readable, { headers }));
    this.#stored = put.then(
      () => undefined,
      (error: unknown) => error ?? new Error('it was refused'),
    );
  }

  async write(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
    const writer = this.#writer as WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
    try {
      // The write itself is not waited for, but room for the next one: what is put has to be read by the cache.
      writer.write(bytes).catch(() => {});
      await writer.ready;
    } catch (cause) {
      throw this.#refused((await this.#stored) ?? cause);
    }
  }

  async commit(): Promise<void> {
    try {
      await this.#writer?.close();
    } catch (cause) {
      throw this.#refused((await this.#stored) ?? cause);
    }
    const error = await this.#stored;
    if (error !== undefined) throw this.#refused(error);
  }

  /** A part of a body can't be kept. */
  keep(): Promise<void> {
    return this.discard();
  }

  async discard(): Promise<void> {
    await this.#writer?.abort(new Error('not the whole file')).catch(() => {});
    await this.#stored;
    this.#writer = undefined;
  }

  #refused(cause: unknown): VGGNetError {
    const full = cause instanceof Error && cause.name === 'QuotaExceededError';
    const what = full ? `there is no room in ${this.#label}` : `${this.#label} did not take it`;
    return new VGGNetError('IO', `Could not store '${this.#file.name}': ${what}: ${reasonOf(cause)}`, { cause });
  }
}
