import type { CachedFile } from '../hub/store.js';
import { openStore } from '../hub/weights.js';
import { formatTable, print, printable, printJson } from './output.js';

export interface CacheFlags {
  readonly cacheDir?: string;
  readonly json?: boolean;
}

/** `vggnet cache list`. */
export async function listCachedWeights({ cacheDir, json }: CacheFlags): Promise<number> {
  const store = openStore({ cacheDir });
  report(store.location, await store.list(), json, 'holds');
  return 0;
}

/** `vggnet cache clear`. */
export async function clearCachedWeights({ cacheDir, json }: CacheFlags): Promise<number> {
  const store = openStore({ cacheDir });
  report(store.location, await store.clear(), json, 'no longer holds');
  return 0;
}

function report(location: string, files: readonly CachedFile[], json: boolean | undefined, verb: string): void {
  const bytes = files.reduce((total, { size = 0 }) => total + size, 0);
  if (json) {
    printJson({ cache: location, files, bytes });
    return;
  }
  if (files.length > 0) {
    const rows = files.map(({ name, size = 0, complete }) => [
      `${name}${complete ? '' : '  (not complete)'}`,
      formatBytes(size),
    ]);
    print(printable(formatTable([['file', 'size'], ...rows], 1)));
  }
  const count = `${files.length} file${files.length === 1 ? '' : 's'}`;
  print(printable(`${location} ${verb} ${count}, ${formatBytes(bytes)}`));
}

/** `527.8 MiB` */
function formatBytes(bytes: number): string {
  const mib = bytes / 2 ** 20;
  return mib >= 0.05 || bytes === 0 ? `${mib.toFixed(1)} MiB` : `${(bytes / 2 ** 10).toFixed(1)} KiB`;
}
