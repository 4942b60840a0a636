import { abortable } from '../../abort.js';
import { throwIfAborted, VGGNetError } from '../../errors.js';
import type { ByteSource } from './bytes.js';
import type { CursorOptions } from './cursor.js';
import { ProgressMeter } from './progress.js';

const PART_BYTES = 2 ** 22;
/** The largest VGG is 575 MB as float32 and twice that as float64. */
const MAX_SPOOLED_BYTES = 2 ** 31;

/**
 * Bytes in memory, from which any part can be read, of a stream that gives them once: for formats that say only at
 * their end, or all over the file, what is in them. Takes ownership of the stream, which is closed.
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` for over 2 GiB; `OUT_OF_MEMORY`, `IO`, `ABORTED`
 */
export async function spool(bytes: ByteSource, { signal, onProgress }: CursorOptions = {}): Promise<ByteSource> {
  const meter = new ProgressMeter(onProgress, bytes.expectedSize);
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let size = 0;
  try {
    for (;;) {
      throwIfAborted(signal);
      const part = allocate(bytes.label);
      const got = await abortable(bytes.read(part), signal);
      parts.push(got < part.length ? part.slice(0, got) : part);
      size += got;
      meter.advance(got);
      if (got < part.length) break;
      if (size > MAX_SPOOLED_BYTES) {
        throw new VGGNetError('INVALID_WEIGHTS_FILE', `${bytes.label}: over the limit of ${MAX_SPOOLED_BYTES} bytes`);
      }
    }
  } finally {
    await bytes.close();
  }
  await meter.finish();
  return partsSource(parts, size, bytes.label);
}

function allocate(label: string): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(PART_BYTES);
  } catch (cause) {
    throw new VGGNetError('OUT_OF_MEMORY', `Could not keep ${label} in memory`, { cause });
  }
}

/** @param parts all but the last of `PART_BYTES` */
function partsSource(parts: Uint8Array<ArrayBuffer>[], size: number, label: string): ByteSource {
  let position = 0;
  return {
    label,
    size,
    expectedSize: size,
    read(into) {
      let filled = 0;
      while (filled < into.length && position < size) {
        const within = position % PART_BYTES;
        const part = (parts[Math.floor(position / PART_BYTES)] as Uint8Array).subarray(
          within,
          within + into.length - filled,
        );
        into.set(part, filled);
        filled += part.length;
        position += part.length;
      }
      return Promise.resolve(filled);
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
      size = 0;
      parts.length = 0;
      return Promise.resolve();
    },
  };
}
