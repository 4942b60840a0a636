import { checked, damaged } from '../bytes/checked.js';
import type { ByteCursor, DataReader } from '../bytes/cursor.js';
import { inflate } from '../bytes/inflate.js';
import { type StorageFile, StorageSource } from '../bytes/storages.js';
import { contiguousStrides, type Storage, type ViewEntry } from '../bytes/view.js';
import { readDirectory, seekEntry, type ZipEntry } from '../bytes/zip.js';
import { quoteName } from '../safetensors/header.js';
import { fromKeras } from './keras.js';
import { type NpyHeader, readNpyHeader } from './npy.js';

/*
 * .npz: a zip archive of .npy arrays, stored (numpy.savez) or deflated (numpy.savez_compressed). The names are those
 * of a state dict, or Keras's (keras.ts).
 */

const SUFFIX = '.npy';
const MAX_ARRAYS = 4096;

interface NpzArray extends Storage {
  readonly entry: ZipEntry;
  readonly header: NpyHeader;
}

/**
 * @param cursor must be able to seek: the arrays' shapes are all over the file
 * @throws VGGNetError `INVALID_WEIGHTS_FILE`, `WEIGHTS_MISMATCH`
 */
export async function openNpz(cursor: ByteCursor): Promise<StorageSource> {
  const directory = await readDirectory(cursor);
  if (directory.length > MAX_ARRAYS) cursor.fail(`${directory.length} arrays, over the limit of ${MAX_ARRAYS}`);
  const arrays: NpzArray[] = [];
  for (const entry of directory) arrays.push(await readArray(cursor, entry));
  const named = arrays.map(viewOf);
  const file: StorageFile = {
    entries: fromKeras(named, cursor.label) ?? named,
    async *storages(wanted) {
      for (const array of arrays.filter((one) => wanted.has(one))) yield* visit(cursor, array);
    },
  };
  return new StorageSource(file, cursor);
}

async function readArray(cursor: ByteCursor, entry: ZipEntry): Promise<NpzArray> {
  const { name, method, size, compressedSize } = entry;
  const at = `array ${quoteName(name)}`;
  const fail = (what: string): never => cursor.fail(`${at}: ${what}`);
  if (!name.endsWith(SUFFIX)) cursor.fail(`expected arrays (.npy), got ${quoteName(name)}`);
  if (method !== 0 && method !== 8) fail(`expected it stored or deflated, got compression method ${method}`);
  if (method === 0 && size !== compressedSize) fail(`it is stored, and has two sizes, ${size} and ${compressedSize}`);
  await seekEntry(cursor, entry);
  const unpacked = method === 8 ? inflate(cursor, entry) : undefined;
  try {
    const header = await readNpyHeader(unpacked ?? limited(cursor, size), fail);
    const byteLength = header.width * header.shape.reduce((product, length) => product * length, 1);
    if (header.dataStart + byteLength !== size) {
      fail(`its shape needs ${byteLength} bytes, and it has ${size - header.dataStart}`);
    }
    return { entry, header, byteLength, label: at, fileBytes: compressedSize };
  } finally {
    unpacked?.close();
  }
}

/** The bytes of a stored entry, and no more. */
function limited(cursor: ByteCursor, size: number): DataReader {
  let left = size;
  return {
    async read(into) {
      const got = await cursor.read(into.subarray(0, left));
      left -= got;
      return got;
    },
    async skip(count) {
      const got = await cursor.skip(Math.min(left, count));
      left -= got;
      return got;
    },
  };
}

function viewOf(array: NpzArray): ViewEntry {
  const { shape, dtype, width, fortranOrder } = array.header;
  const strides = fortranOrder ? contiguousStrides(shape.toReversed()).reverse() : contiguousStrides(shape);
  const layout = { storage: array, byteOffset: 0, width, dims: shape, strides };
  return { name: array.entry.name.slice(0, -SUFFIX.length), shape, dtype, layout };
}

/** Values with their lowest byte first. They are read whole. */
function swapped(data: DataReader, width: number): DataReader {
  return {
    async read(into) {
      const got = await data.read(into);
      for (let at = 0; at + width <= got; at += width) into.subarray(at, at + width).reverse();
      return got;
    },
    skip: (count) => data.skip(count),
  };
}

async function* visit(
  cursor: ByteCursor,
  array: NpzArray,
): AsyncGenerator<{ storage: Storage; data: DataReader }, void, undefined> {
  const { entry, header, byteLength } = array;
  await seekEntry(cursor, entry);
  const unpacked = entry.method === 8 ? inflate(cursor, entry) : undefined;
  try {
    const whole = checked(unpacked ?? limited(cursor, entry.size));
    await whole.read(new Uint8Array(header.dataStart));
    yield { storage: array, data: header.bigEndian ? swapped(whole, header.width) : whole };
    // What nobody read counts for the checksum, and the end of what is unpacked shows only by reading on.
    await whole.skip(byteLength + 1);
    if (whole.crc() !== entry.crc) cursor.fail(damaged(array.label, whole.crc(), entry.crc));
  } finally {
    unpacked?.close();
  }
}
