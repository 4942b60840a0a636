/*
 * The checksum of zip archives: CRC-32 with the polynomial 0xedb88320. Sixteen tables, each for a byte so many places
 * further on ("slicing-by-16": Kounavis and Berry, 2005), so that sixteen bytes take one step.
 */

const SLICES = 16;
let cachedTables: Int32Array | undefined;

/** Sixteen tables of 256, one after another; made when first asked for. */
function tables(): Int32Array {
  if (cachedTables) return cachedTables;
  const table = new Int32Array(SLICES * 256);
  for (let byte = 0; byte < 256; byte++) {
    let value = byte;
    for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb8_8320 : value >>> 1;
    table[byte] = value;
  }
  for (let i = 256; i < table.length; i++) {
    const before = table[i - 256] as number;
    table[i] = (before >>> 8) ^ (table[before & 255] as number);
  }
  cachedTables = table;
  return table;
}

/** The runtime's own, which Node 20.15 and later have. */
type NativeCrc = (data: Uint8Array, value?: number) => number;

function nativeCrc(): NativeCrc | undefined {
  const zlib = globalThis.process?.getBuiltinModule?.('node:zlib') as { crc32?: NativeCrc } | undefined;
  return typeof zlib?.crc32 === 'function' ? zlib.crc32 : undefined;
}

/** The checksum of bytes, or of those before them and them. */
export function crc32(bytes: Uint8Array, before = 0): number {
  return (nativeCrc() ?? portableCrc32)(bytes, before);
}

/** The same where the runtime has none. */
export function portableCrc32(bytes: Uint8Array, before = 0): number {
  const t = tables();
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let crc = ~before;
  let i = 0;
  for (; i + SLICES <= bytes.length; i += SLICES) {
    const a = crc ^ view.getInt32(i, true);
    const b = view.getInt32(i + 4, true);
    const c = view.getInt32(i + 8, true);
    const d = view.getInt32(i + 12, true);
    crc = word(t, 12, a) ^ word(t, 8, b) ^ word(t, 4, c) ^ word(t, 0, d);
  }
  for (; i < bytes.length; i++) crc = (crc >>> 8) ^ (t[(crc ^ (bytes[i] as number)) & 255] as number);
  return ~crc >>> 0;
}

/** Four bytes of which the last is `slice` places before the end of the sixteen. */
function word(t: Int32Array, slice: number, value: number): number {
  const at = slice << 8;
  return (
    (t[at + 768 + (value & 255)] as number) ^
    (t[at + 512 + ((value >>> 8) & 255)] as number) ^
    (t[at + 256 + ((value >>> 16) & 255)] as number) ^
    (t[at + (value >>> 24)] as number)
  );
}
