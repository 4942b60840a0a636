import type { FileHandle } from 'node:fs/promises';
import { messageOf, VGGNetError } from '../errors.js';
import { nodeFs } from '../platform/node.js';

/* The parts of Node that the cache directory needs; Deno and Bun have them too. */

export type NodeFs = typeof import('node:fs/promises');
export type NodePath = typeof import('node:path');

export interface NodeParts {
  readonly fs: NodeFs;
  readonly path: NodePath;
  readonly os: typeof import('node:os');
}

/** Undefined in browsers and edge workers. */
export function nodeParts(): NodeParts | undefined {
  const fs = nodeFs()?.promises;
  const load = globalThis.process?.getBuiltinModule;
  return fs && load ? { fs, path: load('node:path'), os: load('node:os') } : undefined;
}

/** What the system calls an error: `ENOENT`. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

/** An error of the file system, with a way out where there is one. */
export function cacheError(what: string, cause: unknown): VGGNetError {
  if (cause instanceof VGGNetError) return cause;
  const hints: Readonly<Record<string, string>> = {
    ENOSPC: '; free room there, or give another folder by cacheDir',
    EDQUOT: '; free room there, or give another folder by cacheDir',
    EACCES: '; give another folder by cacheDir',
    EPERM: '; give another folder by cacheDir',
    EROFS: '; give another folder by cacheDir',
    ENOTDIR: '; give another folder by cacheDir',
  };
  const reason = messageOf(cause);
  return new VGGNetError('IO', `${what}: ${reason}${hints[codeOf(cause) ?? ''] ?? ''}`, { cause });
}

/** Flags for opening: never through a link, and without waiting for the other end of a pipe. */
function safeFlags(constants: typeof import('node:fs').constants, flags: number): number {
  // Windows has neither, nor pipes in folders.
  return flags | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
}

/**
 * Opens a regular file of the cache, which may be a folder that others write to: a link, pipe or device in a file's
 * place is not opened.
 * @param flags of `fs.constants`; with `O_CREAT` there must be none yet
 * @throws the file system's error; one with the code `ENOTFILE` for what is no regular file
 */
export async function openRegular({ fs }: NodeParts, path: string, flags: number): Promise<FileHandle> {
  const { constants } = fs;
  const create = (flags & constants.O_CREAT) !== 0;
  // Not every system has the flags below, so it is looked at first too.
  if (!create && !(await fs.lstat(path)).isFile()) throw notFile(path);
  let handle: FileHandle;
  try {
    handle = await fs.open(path, safeFlags(constants, flags | (create ? constants.O_EXCL : 0)), 0o600);
  } catch (error) {
    throw codeOf(error) === 'ELOOP' ? notFile(path) : error;
  }
  try {
    if (!(await handle.stat()).isFile()) throw notFile(path);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** A small text in a regular file, such as a lock. */
export async function readSmall(node: NodeParts, path: string): Promise<string> {
  const handle = await openRegular(node, path, node.fs.constants.O_RDONLY);
  try {
    const bytes = new Uint8Array(MAX_SMALL_BYTES);
    const { bytesRead } = await handle.read(bytes, 0, bytes.length, 0);
    return new TextDecoder().decode(bytes.subarray(0, bytesRead));
  } finally {
    await handle.close();
  }
}

const MAX_SMALL_BYTES = 2 ** 14;

function notFile(path: string): Error {
  return Object.assign(new Error(`'${path}' is a link, pipe or device, and no file`), { code: 'ENOTFILE' });
}

/** True if a path holds something that is no regular file, which nothing here has made. */
export async function isForeign({ fs }: NodeParts, path: string): Promise<boolean> {
  const stats = await fs.lstat(path).catch(() => undefined);
  return stats !== undefined && !stats.isFile();
}

/** Parses JSON of a stranger into an object; an empty one for all else. */
export function parseRecord(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

/** Whether a value of a stranger's record is a string that matches. */
export function isText(value: unknown, pattern: RegExp): value is string {
  return typeof value === 'string' && pattern.test(value);
}
