import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A new folder for a cache. */
export function newFolder(): Promise<string> {
  return mkdtemp(join(tmpdir(), 'vggnet-cache-'));
}

export function removeFolder(folder: string): Promise<void> {
  return rm(folder, { recursive: true, force: true });
}

/** What is in it, with tokens written as `TOKEN`. */
export async function contents(folder: string): Promise<string[]> {
  const names = await readdir(folder).catch(() => []);
  return names.map((name) => name.replace(/\.[0-9a-z]{8}\.(partial|meta)$/, '.TOKEN.$1')).sort();
}
