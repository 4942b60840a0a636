import { messageOf, VGGNetError } from '../errors.js';

/** Reads a file that comes with the package: by fetch, or from the disk where the URL is a file's. */
export async function readAsset(url: URL): Promise<Uint8Array<ArrayBuffer>> {
  const fs = url.protocol === 'file:' ? globalThis.process?.getBuiltinModule?.('node:fs') : undefined;
  try {
    if (fs) return new Uint8Array(await fs.promises.readFile(url));
    const response = await fetch(url);
    if (!response.ok) throw new Error(`HTTP ${response.status}`);
    return new Uint8Array(await response.arrayBuffer());
  } catch (cause) {
    const message = messageOf(cause);
    throw new VGGNetError('IO', `Could not read ${url.href}, a file of the vggnet package: ${message}`, { cause });
  }
}
