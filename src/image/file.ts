import { throwIfAborted } from '../errors.js';
import { nodeFs } from '../platform/node.js';
import { checkImageBytes } from './limits.js';

/* Images on a disk, which pages have none of: loaded on demand. */

/** Bytes read at once; between two reads the signal is looked at. */
const READ_STEP = 4 * 2 ** 20;

/** @throws VGGNetError `IMAGE_TOO_LARGE`, `ABORTED`, or what Node throws */
export async function readRegularFile(path: string | URL, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const fs = nodeFs()?.promises as typeof import('node:fs/promises');
  // Before it is opened: opening a pipe waits for its writer, perhaps for ever.
  const stat = await fs.stat(path);
  if (!stat.isFile()) throw new Error('it is not a regular file');
  const { size } = stat;
  checkImageBytes(size);
  const file = await fs.open(path);
  try {
    const bytes = new Uint8Array(size);
    let filled = 0;
    while (filled < size) {
      throwIfAborted(signal);
      const { bytesRead } = await file.read(bytes, filled, Math.min(size - filled, READ_STEP), null);
      if (bytesRead === 0) break;
      filled += bytesRead;
    }
    return bytes.subarray(0, filled);
  } finally {
    await file.close();
  }
}
