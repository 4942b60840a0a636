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
