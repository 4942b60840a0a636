import { crc32 } from 'node:zlib';

export interface PngParts {
  /** The deflated rows. */
  readonly data: Uint8Array;
  /** Color type: 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGBA. Default 0. */
  readonly type?: number;
  readonly bitDepth?: number;
  readonly interlaced?: boolean;
  readonly palette?: Uint8Array | undefined;
  /** Chunks between the header and the data. */
  readonly between?: Uint8Array;
}

export function chunk(type: string, data: Uint8Array): Buffer {
  const body = Buffer.concat([Buffer.from(type), data]);
  const ends = Buffer.alloc(8);
  ends.writeUInt32BE(data.length, 0);
  ends.writeUInt32BE(crc32(body), 4);
  return Buffer.concat([ends.subarray(0, 4), body, ends.subarray(4)]);
}

/** A PNG that claims a size. */
export function png(width: number, height: number, parts: PngParts): Uint8Array<ArrayBuffer> {
  const { data, type = 0, bitDepth = 8, interlaced, palette, between = new Uint8Array() } = parts;
  const header = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, bitDepth, type, 0, 0, interlaced ? 1 : 0]);
  header.writeUInt32BE(width, 0);
  header.writeUInt32BE(height, 4);
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
  const end = chunk('IEND', Buffer.alloc(0));
  const colors = palette ? chunk('PLTE', palette) : Buffer.alloc(0);
  return new Uint8Array(Buffer.concat([signature, chunk('IHDR', header), between, colors, chunk('IDAT', data), end]));
}
