import type { FileHandle } from 'node:fs/promises';
import { throwIfAborted } from '../errors.js';
import { cacheError, codeOf, isForeign, isText, type NodeParts, openRegular, parseRecord, readSmall } from './node.js';
import { createSha256 } from './sha256.js';
import { MAX_BYTES, type Origin, type Sink } from './sink.js';

/*
 * A download on its way, in a cache directory. `NAME.TOKEN.partial` has the bytes and `NAME.TOKEN.meta` their version;
 * the token is that of the one process that writes them. Who keeps a partial for later renames its meta file to
 * `NAME.resume`; who goes on with it renames that to a name of its own, which only one can.
 */

/** What `NAME.json` says of the finished file beside it: as long as its size and time stay, its digest holds. */
export interface Verified {
  readonly sha256: string;
  readonly size: number;
  /** When it was last changed, in whole milliseconds, for runtimes differ in what they give beyond. */
  readonly time: number;
}

/** Of a process: a part of its files' names. */
const TOKEN = /^[0-9a-z]{8}$/;
/** Bytes read at once. */
const READ_BYTES = 2 ** 22;

export class PartialFile implements Sink {
  readonly kept: number;
  readonly origin: Origin | undefined;
  readonly #node: NodeParts;
  readonly #target: string;
  readonly #token: string;
  readonly #handle: FileHandle;
  #position: number;
  #resumable: boolean;

  private constructor(
    node: NodeParts,
    target: string,
    token: string,
    handle: FileHandle,
    kept: number,
    origin: Origin | undefined,
  ) {
    this.#node = node;
    this.#target = target;
    this.#token = token;
    this.#handle = handle;
    this.kept = kept;
    this.#position = kept;
    this.origin = origin;
    this.#resumable = origin !== undefined;
  }

  /**
   * Takes up the partial that was kept for this file, or that an ended process left, or begins an empty one.
   * @param target the finished file's path
   * @throws VGGNetError `IO`
   */
  static async open(node: NodeParts, target: string, token: string, heirOf: string | undefined): Promise<PartialFile> {
    const { fs } = node;
    const path = partialPath(target, token);
    let origin = await claim(node, target, token, heirOf);
    try {
      if (origin && (await isForeign(node, path))) {
        // What was kept is a link or pipe, which nothing here has made: it is not written through.
        await fs.unlink(path);
        origin = undefined;
      }
      const { O_RDWR, O_CREAT } = fs.constants;
      const handle = await openRegular(node, path, origin ? O_RDWR : O_RDWR | O_CREAT);
      const kept = origin ? (await handle.stat()).size : 0;
      return new PartialFile(node, target, token, handle, kept, origin);
    } catch (cause) {
      throw cacheError(`Could not write '${path}'`, cause);
    }
  }

  get #path(): string {
    return partialPath(this.#target, this.#token);
  }

  async replay(use: (bytes: Uint8Array) => void): Promise<void> {
    try {
      await readAll(this.#handle, this.kept, use);
    } catch (cause) {
      throw cacheError(`Could not read '${this.#path}'`, cause);
    }
  }

  async begin(origin: Origin): Promise<void> {
    await this.#guard(async () => {
      // Before the bytes: without it they would be of the version before.
      await writeMeta(this.#node, this.#target, this.#token, origin);
      await this.#handle.truncate(0);
      this.#position = 0;
      this.#resumable = true;
    });
  }

  async write(bytes: Uint8Array): Promise<void> {
    await this.#guard(async () => {
      for (let written = 0; written < bytes.length; ) {
        const { bytesWritten } = await this.#handle.write(bytes, written, bytes.length - written, this.#position);
        written += bytesWritten;
        this.#position += bytesWritten;
      }
    });
  }

  async commit(sha256: string): Promise<void> {
    const { fs } = this.#node;
    await this.#guard(async () => {
      await this.#handle.truncate(this.#position);
      // So that a power cut after the rename leaves no file with holes.
      await this.#handle.sync();
      const { size, mtimeMs } = await this.#handle.stat();
      await this.#handle.close();
      await writeVerified(this.#node, this.#target, { sha256, size, time: Math.floor(mtimeMs) });
      await fs.rename(this.#path, this.#target);
      await fs.unlink(metaPath(this.#target, this.#token)).catch(() => {});
    });
  }

  async keep(): Promise<void> {
    if (!this.#resumable || this.#position === 0) return this.discard();
    await this.#handle.close().catch(() => {});
    await this.#node.fs.rename(metaPath(this.#target, this.#token), resumePath(this.#target)).catch(() => {});
  }

  async discard(): Promise<void> {
    const { fs } = this.#node;
    await this.#handle.close().catch(() => {});
    await fs.unlink(this.#path).catch(() => {});
    await fs.unlink(metaPath(this.#target, this.#token)).catch(() => {});
  }

  async #guard(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      throw cacheError(`Could not write '${this.#path}'`, cause);
    }
  }
}

/** Makes another's partial this process's own, and gives its version; undefined if there is none. */
async function claim(
  node: NodeParts,
  target: string,
  token: string,
  heirOf: string | undefined,
): Promise<Origin | undefined> {
  const { fs } = node;
  const meta = metaPath(target, token);
  const sources = [resumePath(target), ...(heirOf === undefined ? [] : [metaPath(target, heirOf)])];
  for (const source of sources) {
    try {
      await fs.rename(source, meta);
      const found = parseRecord(await readSmall(node, meta));
      if (!isText(found.token, TOKEN) || typeof found.origin !== 'object' || found.origin === null) continue;
      const { etag, lastModified, total } = found.origin as Readonly<Record<string, unknown>>;
      const origin: Origin = { etag: text(etag), lastModified: text(lastModified), total: count(total) };
      await fs.rename(partialPath(target, found.token), partialPath(target, token));
      await writeMeta(node, target, token, origin);
      return origin;
    } catch (cause) {
      if (codeOf(cause) === 'ENOTFILE') await fs.unlink(meta).catch(() => {});
      if (codeOf(cause) === 'ENOENT' || codeOf(cause) === 'ENOTFILE') continue;
      throw cacheError(`Could not write '${meta}'`, cause);
    }
  }
  return undefined;
}

/** Writes which version the bytes of a partial are of, in a new file: one that is there may be a link. */
async function writeMeta({ fs }: NodeParts, target: string, token: string, origin: Origin): Promise<void> {
  const path = metaPath(target, token);
  await fs.rm(path, { force: true });
  await fs.writeFile(path, JSON.stringify({ token, origin }), { flag: 'wx' });
}

function text(value: unknown): string | undefined {
  // It becomes a header.
  return typeof value === 'string' && /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/.test(value) ? value : undefined;
}

function count(value: unknown): number | undefined {
  return Number.isSafeInteger(value) ? (value as number) : undefined;
}

/**
 * The digest of a whole file, with what tells whether it is still the same; undefined if its size is not the right one.
 * @throws VGGNetError `ABORTED`; and whatever the file system throws
 */
export async function hashFile(
  node: NodeParts,
  path: string,
  { size: expected, signal }: { size?: number | undefined; signal?: AbortSignal | undefined } = {},
): Promise<Verified | undefined> {
  const handle = await openRegular(node, path, node.fs.constants.O_RDONLY);
  try {
    const { size, mtimeMs } = await handle.stat();
    if (size > MAX_BYTES || (expected !== undefined && size !== expected)) return undefined;
    const hash = createSha256();
    await readAll(handle, size, (bytes) => {
      throwIfAborted(signal);
      hash.update(bytes);
    });
    return { sha256: hash.digest(), size, time: Math.floor(mtimeMs) };
  } finally {
    await handle.close();
  }
}

async function readAll(handle: FileHandle, size: number, use: (bytes: Uint8Array) => void): Promise<void> {
  const buffer = new Uint8Array(Math.min(READ_BYTES, Math.max(size, 1)));
  for (let position = 0; position < size; ) {
    const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, size - position), position);
    if (bytesRead === 0) throw new Error(`it ends at byte ${position} of ${size}`);
    use(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
}

/** Reads `NAME.json`. */
export async function readVerified(node: NodeParts, target: string): Promise<Verified | undefined> {
  try {
    const { sha256, size, time } = parseRecord(await readSmall(node, verifiedPath(target)));
    const good = isText(sha256, /^[0-9a-f]{64}$/) && typeof size === 'number' && typeof time === 'number';
    return good ? { sha256, size, time } : undefined;
  } catch {
    // Without it the file is read once more.
    return undefined;
  }
}

/** Writes `NAME.json`, whole or not at all. */
export async function writeVerified({ fs }: NodeParts, target: string, verified: Verified): Promise<void> {
  const path = verifiedPath(target);
  const draft = `${path}.${Math.random().toString(36).slice(2, 10)}`;
  try {
    await fs.writeFile(draft, `${JSON.stringify(verified)}\n`, { flag: 'wx' });
    await fs.rename(draft, path);
  } catch (cause) {
    await fs.unlink(draft).catch(() => {});
    throw cause;
  }
}

export function verifiedPath(target: string): string {
  return `${target}.json`;
}

function partialPath(target: string, token: string): string {
  return `${target}.${token}.partial`;
}

function metaPath(target: string, token: string): string {
  return `${target}.${token}.meta`;
}

function resumePath(target: string): string {
  return `${target}.resume`;
}
