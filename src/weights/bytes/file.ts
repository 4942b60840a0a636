import type { FileHandle } from 'node:fs/promises';
import { abortable } from '../../abort.js';
import { throwIfAborted, VGGNetError } from '../../errors.js';
import { nodeFs } from '../../platform/node.js';
import { reasonOf, redactUrls } from '../../url.js';
import type { ByteSource } from './bytes.js';

/* Files, in Node, Deno and Bun. Loaded when one is named. */

type Files = typeof import('node:fs').promises;

function requireFs(path: string | URL): Files {
  const fs = nodeFs();
  if (!fs) throw new VGGNetError('IO', `Cannot open ${describePath(path)}: this runtime has no files`);
  return fs.promises;
}

function describePath(path: string | URL): string {
  return `'${redactUrls(typeof path === 'string' ? path : path.href)}'`;
}

/**
 * A regular file, read part by part at positions of its own.
 * @throws VGGNetError `IO` if there is no such file, it is not a regular one, or it may not be read
 */
export async function openFile(path: string | URL): Promise<ByteSource> {
  const fs = requireFs(path);
  const label = describePath(path);
  let handle: FileHandle;
  let size: number;
  try {
    // Before opening: to open a pipe waits for its writer.
    const stats = await fs.stat(path);
    if (!stats.isFile()) {
      throw new VGGNetError(
        'IO',
        `Expected a file, got ${stats.isDirectory() ? 'a directory' : 'a device or pipe'}: ${label}`,
      );
    }
    handle = await fs.open(path, 'r');
    size = stats.size;
  } catch (cause) {
    throw ioError(`Could not open ${label}`, cause);
  }
  let position = 0;
  let closing: Promise<void> | undefined;
  return {
    label,
    size,
    expectedSize: size,
    async read(into) {
      let filled = 0;
      try {
        while (filled < into.length) {
          const { bytesRead } = await handle.read(into, filled, into.length - filled, position);
          if (bytesRead === 0) break;
          filled += bytesRead;
          position += bytesRead;
        }
      } catch (cause) {
        throw ioError(`Could not read ${label}`, cause);
      }
      return filled;
    },
    skip(count) {
      const skipped = Math.min(count, size - position);
      position += skipped;
      return Promise.resolve(skipped);
    },
    seek(to) {
      position = Math.min(to, size);
    },
    close() {
      // A file that was only read has nothing to lose by a failed close.
      closing ??= handle.close().catch(() => {});
      return closing;
    },
  };
}

/** As `saveFile` (save-file.ts). */
export async function writeFile(
  path: string | URL,
  stream: ReadableStream<Uint8Array>,
  signal?: AbortSignal,
): Promise<number> {
  const label = describePath(path);
  if (stream.locked) throw new VGGNetError('INVALID_ARGUMENT', 'Expected an unread stream, got one that is locked');
  const reader = stream.getReader();
  let handle: FileHandle | undefined;
  let partial: string | undefined;
  try {
    throwIfAborted(signal);
    const fs = requireFs(path);
    const target = await targetOf(path, fs).catch((cause) => {
      throw ioError(`Could not write ${label}`, cause);
    });
    partial = `${target}.${Math.random().toString(36).slice(2, 10)}.partial`;
    handle = await fs.open(partial, 'wx').catch((cause) => {
      partial = undefined;
      throw ioError(`Could not write ${label}`, cause);
    });
    let written = 0;
    for (;;) {
      throwIfAborted(signal);
      const { done, value } = await abortable(reader.read(), signal);
      if (done) break;
      await writeAll(handle, value).catch((cause) => {
        throw ioError(`Could not write ${label}`, cause);
      });
      written += value.length;
    }
    try {
      await handle.close();
      handle = undefined;
      await fs.rename(partial, target);
      partial = undefined;
    } catch (cause) {
      throw ioError(`Could not write ${label}`, cause);
    }
    return written;
  } finally {
    reader.cancel().catch(() => {});
    await handle?.close().catch(() => {});
    if (partial !== undefined)
      await nodeFs()
        ?.promises.unlink(partial)
        .catch(() => {});
  }
}

async function writeAll(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    written += (await handle.write(bytes, written, bytes.length - written)).bytesWritten;
  }
}

/** The file that a path or link names, which need not exist yet. */
async function targetOf(path: string | URL, fs: Files): Promise<string> {
  const name = typeof path === 'string' ? path : globalThis.process.getBuiltinModule('node:url').fileURLToPath(path);
  try {
    const real = await fs.realpath(name);
    if (!(await fs.stat(real)).isFile())
      throw new VGGNetError('IO', `Expected a file to write, got something else: ${describePath(name)}`);
    return real;
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return name;
    throw cause;
  }
}

function ioError(what: string, cause: unknown): VGGNetError {
  if (cause instanceof VGGNetError) return cause;
  return new VGGNetError('IO', `${what}: ${reasonOf(cause)}`, { cause });
}
