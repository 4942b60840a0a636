import { quoteName } from '../safetensors/header.js';
import type { ByteCursor, DataReader } from './cursor.js';
import type { ZipEntry } from './zip.js';

/** Fed at once: deflate makes at most 1032 times as much of it, and some runtimes unpack all of a part at once. */
const FEED_BYTES = 2 ** 14;
const MAX_RATIO = 1032;

/** Bytes being unpacked. */
export interface Inflated extends DataReader {
  /** Lets go of the unpacker. May be called twice. */
  close(): void;
}

/**
 * Unpacks the deflated data at the cursor as it is read, by the runtime's own DecompressionStream; never more than
 * the entry's size.
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` for data that is no deflate stream, or has another size than it says
 */
export function inflate(cursor: ByteCursor, entry: ZipEntry): Inflated {
  const at = `entry ${quoteName(entry.name)}`;
  if (entry.size > entry.compressedSize * MAX_RATIO) {
    cursor.fail(`${at} cannot have ${entry.size} bytes: it is ${entry.compressedSize} bytes when deflated`);
  }
  const { readable, writable } = new DecompressionStream('deflate-raw');
  const reader: ReadableStreamDefaultReader<Uint8Array> = readable.getReader();
  const writer = writable.getWriter();
  // What goes wrong shows in what is read.
  for (const promise of [writer.closed, reader.closed]) promise.catch(() => undefined);
  let left = entry.compressedSize;
  let writing: Promise<void> | undefined;
  let reading: Promise<ReadableStreamReadResult<Uint8Array>> | undefined;
  let rest: Uint8Array = new Uint8Array(0);
  let total = 0;

  /** Hands over the next part, unless one is on its way. The cursor is not used after this returns. */
  async function feed(): Promise<void> {
    if (writing || left === 0) return;
    const part = new Uint8Array(Math.min(FEED_BYTES, left));
    const got = await cursor.read(part);
    if (got < part.length) cursor.fail(`ends early at byte ${cursor.position}, in ${at}`);
    left -= got;
    const written = left > 0 ? writer.write(part) : writer.write(part).then(() => writer.close());
    writing = written
      .catch(() => undefined)
      .then(() => {
        writing = undefined;
      });
  }

  /** Makes `rest` hold a byte; false at the end. */
  async function pull(): Promise<boolean> {
    while (rest.length === 0) {
      reading ??= reader.read();
      reading.catch(() => undefined);
      await feed();
      let result: ReadableStreamReadResult<Uint8Array> | undefined;
      try {
        result = (await (writing ? Promise.race([reading, writing]) : reading)) ?? undefined;
      } catch {
        cursor.fail(`${at} is not deflated as it should be, after ${total} bytes of ${entry.size}`);
      }
      if (!result) continue;
      reading = undefined;
      if (result.done) {
        if (total < entry.size) cursor.fail(`${at} ends after ${total} bytes, and should have ${entry.size}`);
        return false;
      }
      rest = result.value;
      total += rest.length;
      if (total > entry.size) cursor.fail(`${at} has over the ${entry.size} bytes that it should have`);
    }
    return true;
  }

  async function take(count: number, use: (part: Uint8Array, at: number) => void): Promise<number> {
    let taken = 0;
    while (taken < count && (await pull())) {
      const part = rest.subarray(0, count - taken);
      use(part, taken);
      rest = rest.subarray(part.length);
      taken += part.length;
    }
    return taken;
  }

  return {
    read: (into) => take(into.length, (part, offset) => into.set(part, offset)),
    skip: (count) => take(count, () => {}),
    close() {
      reader.cancel().catch(() => undefined);
      writer.abort().catch(() => undefined);
    },
  };
}
