import { crc32 } from './crc32.js';
import type { DataReader } from './cursor.js';

/** Bytes whose checksum is made as they pass. */
export interface Checked extends DataReader {
  /** Of all bytes that were read or passed over. */
  crc(): number;
}

const SCRATCH_BYTES = 2 ** 16;

/** Sums up what is read, and what is passed over. */
export function checked(data: DataReader): Checked {
  let crc = 0;
  const read = async (into: Uint8Array<ArrayBuffer>): Promise<number> => {
    const got = await data.read(into);
    crc = crc32(into.subarray(0, got), crc);
    return got;
  };
  return {
    read,
    async skip(count) {
      const scratch = new Uint8Array(Math.min(SCRATCH_BYTES, count));
      let skipped = 0;
      while (skipped < count) {
        const got = await read(scratch.subarray(0, count - skipped));
        if (got === 0) break;
        skipped += got;
      }
      return skipped;
    },
    crc: () => crc,
  };
}

/** What is wrong with bytes whose checksum is another. */
export function damaged(what: string, got: number, expected: number): string {
  return `${what} is damaged: its checksum is ${hex(got)}, and should be ${hex(expected)}`;
}

function hex(value: number): string {
  return `0x${value.toString(16).padStart(8, '0')}`;
}
