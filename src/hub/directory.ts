import { VGGNetError } from '../errors.js';
import { PRETRAINED, type PretrainedFile } from './catalog.js';
import { isLocked, type LockTimes, takeLock } from './lock.js';
import { cacheError, codeOf, type NodeParts } from './node.js';
import { hashFile, PartialFile, readVerified, verifiedPath, writeVerified } from './partial.js';
import type { Sink } from './sink.js';
import type { CachedFile, WeightStore } from './store.js';

/** Files of other names are not the cache's, and are neither listed nor deleted. */
const OWN_FILE =
  /^(.+?\.(?:pth|safetensors))(\.json(?:\.[0-9a-z]+)?|\.lock|\.resume|\.[0-9a-z]{8}\.(?:partial|meta))?$/;

/** A cache in a folder, in Node, Deno and Bun. */
export class DirectoryStore implements WeightStore {
  readonly location: string;
  readonly #node: NodeParts;
  readonly #times: LockTimes | undefined;

  /** @param times of the lock, for tests */
  constructor(node: NodeParts, folder: string, times?: LockTimes) {
    this.#node = node;
    this.location = node.path.resolve(folder);
    this.#times = times;
  }

  async get(
    file: PretrainedFile,
    fill: (sink: Sink) => Promise<void>,
    { signal }: { signal?: AbortSignal | undefined },
  ): Promise<string> {
    const target = this.#node.path.join(this.location, file.name);
    // A file that someone put there is read once, and then known. All this also works where nothing may be written.
    if ((await this.#isVerified(target, file)) || (await this.#adopt(target, file, signal))) return target;
    await this.#make();
    const ready = async (): Promise<string | undefined> =>
      (await this.#isVerified(target, file)) ? target : undefined;
    const lock = await takeLock(this.#node, `${target}.lock`, ready, { signal, times: this.#times });
    if ('ready' in lock) return lock.ready;
    try {
      // Another may have finished just before.
      if ((await ready()) !== undefined || (await this.#adopt(target, file, signal))) return target;
      const replaced = await this.#delete(target);
      const sink = await PartialFile.open(this.#node, target, lock.token, lock.heirOf);
      try {
        await fill(sink);
      } catch (error) {
        throw replaced ? mentionReplaced(error, target) : error;
      }
      return target;
    } finally {
      await lock.release();
    }
  }

  async list(): Promise<CachedFile[]> {
    const files: CachedFile[] = [];
    for (const { name, part } of await this.#entries()) {
      if (part !== '' && !part.endsWith('.partial')) continue;
      const size = await this.#size(name + part);
      if (size !== undefined) files.push({ name: name + part, size, complete: part === '' });
    }
    return files;
  }

  async clear(): Promise<CachedFile[]> {
    const { fs, path } = this.#node;
    const cleared: CachedFile[] = [];
    for (const { name, part } of await this.#entries()) {
      if (await isLocked(this.#node, path.join(this.location, `${name}.lock`))) continue;
      const size = await this.#size(name + part);
      try {
        await fs.rm(path.join(this.location, name + part), { force: true });
      } catch (cause) {
        throw cacheError(`Could not delete '${path.join(this.location, name + part)}'`, cause);
      }
      if (part === '' || part.endsWith('.partial')) cleared.push({ name: name + part, size, complete: part === '' });
    }
    return cleared;
  }

  /** The cache's own files, each as the name of the weights and what follows it. */
  async #entries(): Promise<{ name: string; part: string }[]> {
    let names: string[];
    try {
      names = (await this.#node.fs.readdir(this.location)).sort();
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT') return [];
      throw cacheError(`Could not read the cache '${this.location}'`, cause);
    }
    const parts = names.flatMap((full) => {
      const [, name, part = ''] = OWN_FILE.exec(full) ?? [];
      return name === undefined ? [] : [{ name, part }];
    });
    // Weights that only lie there, in a folder that has other uses, are their owner's.
    const own = new Set(PRETRAINED.flatMap((set) => set.files.map((file) => file.name)));
    for (const { name, part } of parts) {
      if (part === '.json' ? await readVerified(this.#node, this.#node.path.join(this.location, name)) : part !== '') {
        own.add(name);
      }
    }
    return parts.filter(({ name }) => own.has(name));
  }

  async #size(name: string): Promise<number | undefined> {
    const stats = await this.#node.fs.lstat(this.#node.path.join(this.location, name)).catch(() => undefined);
    return stats?.isFile() ? stats.size : undefined;
  }

  /** True if the file is the one that was checked before. Reads two small things. */
  async #isVerified(target: string, file: PretrainedFile): Promise<boolean> {
    const [stats, verified] = await Promise.all([
      this.#node.fs.lstat(target).catch(() => undefined),
      readVerified(this.#node, target),
    ]);
    if (!stats?.isFile() || !verified?.sha256.startsWith(file.sha256)) return false;
    return stats.size === verified.size && Math.floor(stats.mtimeMs) === verified.time;
  }

  /** Reads a file that is there, and notes that it is the right one, if it is. */
  async #adopt(target: string, file: PretrainedFile, signal: AbortSignal | undefined): Promise<boolean> {
    try {
      const verified = await hashFile(this.#node, target, { size: file.size, signal });
      if (!verified?.sha256.startsWith(file.sha256)) return false;
      await writeVerified(this.#node, target, verified).catch(() => {});
      return true;
    } catch (cause) {
      // A link, pipe or device is replaced, as a wrong file is.
      if (['ENOENT', 'ENOTDIR', 'ENOTFILE'].includes(codeOf(cause) ?? '')) return false;
      throw cacheError(`Could not read '${target}'`, cause);
    }
  }

  async #make(): Promise<void> {
    try {
      await this.#node.fs.mkdir(this.location, { recursive: true });
    } catch (cause) {
      throw cacheError(`Could not make the cache '${this.location}'`, cause);
    }
  }

  /** Deletes a file that is not the right one, and tells whether there was one. */
  async #delete(target: string): Promise<boolean> {
    await this.#node.fs.rm(verifiedPath(target), { force: true }).catch(() => {});
    try {
      await this.#node.fs.unlink(target);
      return true;
    } catch (cause) {
      if (codeOf(cause) === 'ENOENT') return false;
      throw cacheError(`Could not delete '${target}', which is not the published file`, cause);
    }
  }
}

function mentionReplaced(error: unknown, target: string): unknown {
  if (!(error instanceof VGGNetError)) return error;
  const message = `${error.message}. In its place there was '${target}', which was not the published file and was deleted`;
  return new VGGNetError(error.code, message, { cause: error });
}

/**
 * The folder that the cache is in by default: `VGGNET_CACHE`, or else where the system keeps caches.
 * @throws VGGNetError `IO` if the environment may not be read, as in Deno without a permission
 */
export function defaultFolder({ os, path }: NodeParts): string {
  try {
    const { env, platform } = process;
    if (env.VGGNET_CACHE) return env.VGGNET_CACHE;
    if (platform === 'win32')
      return path.join(env.LOCALAPPDATA || path.join(os.homedir(), 'AppData', 'Local'), 'vggnet', 'Cache');
    if (platform === 'darwin') return path.join(os.homedir(), 'Library', 'Caches', 'vggnet');
    // The XDG Base Directory Specification: a path that is not absolute is passed over.
    const base = env.XDG_CACHE_HOME && path.isAbsolute(env.XDG_CACHE_HOME) ? env.XDG_CACHE_HOME : undefined;
    return path.join(base ?? path.join(os.homedir(), '.cache'), 'vggnet');
  } catch (cause) {
    throw cacheError('Could not find the folder for caches; give one by cacheDir', cause);
  }
}
