import { VGGNetError } from '../../errors.js';
import type { ByteCursor, DataReader } from '../bytes/cursor.js';
import { type StorageFile, StorageSource } from '../bytes/storages.js';
import { CONFIG_KEY, encodeConfig } from '../metadata.js';
import { networkOf } from './graph.js';
import { type OnnxTensor, readModel } from './model.js';
import type { OnnxStorage } from './weights.js';

/** With it, as both are loaded on demand. */
export { externalOpener } from './external.js';

/** Opens a file beside the model's, by its relative path. Its bytes can seek. */
export type OpenExternal = (location: string) => Promise<ByteCursor>;

/** A model is in one file beside it, or in one for each tensor; those of a VGG are few. */
const MAX_EXTERNAL_FILES = 256;

/**
 * Opens an ONNX file: its graph is held against a VGG, whose tensors are then found by what the graph does with them,
 * and described by the source's metadata.
 * @param cursor must be able to seek: the graph's nodes and tensors may come in any order
 * @throws VGGNetError `INVALID_WEIGHTS_FILE`; `WEIGHTS_MISMATCH` that names the first difference from a VGG
 */
export async function openOnnx(cursor: ByteCursor, openExternal: OpenExternal): Promise<StorageSource> {
  const { config, entries } = networkOf(await readModel(cursor));
  const placeOf = (storage: unknown): number => (storage as OnnxStorage).place;
  const files = new Map<string, ByteCursor>();
  const read = async (tensor: OnnxTensor): Promise<DataReader> => {
    const { external, start } = tensor;
    if (!external) {
      if (start !== undefined) cursor.seek(start);
      return tensor.varints ? readHalves(cursor, tensor) : cursor;
    }
    const { location, offset } = external;
    if (files.size === MAX_EXTERNAL_FILES) cursor.fail(`its values are in over ${MAX_EXTERNAL_FILES} files`);
    const file = files.get(location) ?? (await openExternal(location));
    files.set(location, file);
    checkExternal(tensor, offset, file, cursor);
    file.seek(offset);
    return file;
  };
  const file: StorageFile = {
    entries: [...entries].sort((a, b) => placeOf(a.layout.storage) - placeOf(b.layout.storage)),
    metadata: { [CONFIG_KEY]: encodeConfig(config) },
    async *storages(wanted) {
      const sorted = [...wanted].sort((a, b) => placeOf(a) - placeOf(b)) as OnnxStorage[];
      try {
        for (const storage of sorted) yield { storage, data: await storage.open(read) };
      } finally {
        for (const external of files.values()) await external.close();
      }
    },
  };
  return new StorageSource(file, cursor);
}

function checkExternal(
  { label, fileBytes, byteLength }: OnnxTensor,
  offset: number,
  file: ByteCursor,
  model: ByteCursor,
): void {
  if (fileBytes !== byteLength)
    model.fail(`${label} needs ${byteLength} bytes, and its external data has ${fileBytes}`);
  if (offset + byteLength <= (file.size as number)) return;
  throw new VGGNetError(
    'INVALID_WEIGHTS_FILE',
    `${file.label}: ${label} goes from byte ${offset} to ${offset + byteLength}, and the file has ${file.size}`,
  );
}

/** 16-bit values that are written as varints, of one to three bytes each. */
async function readHalves(cursor: ByteCursor, tensor: OnnxTensor): Promise<DataReader> {
  const packed = await cursor.take(tensor.fileBytes, tensor.label);
  const halves = new Uint16Array(tensor.byteLength / 2);
  const fail = (): never => cursor.fail(`${tensor.label}: its values are not 16-bit integers`);
  let at = 0;
  for (let i = 0; i < halves.length; i++) {
    let value = 0;
    let shift = 0;
    for (;;) {
      const byte = packed[at++] ?? fail();
      value |= (byte & 0x7f) << shift;
      shift += 7;
      if (byte < 0x80) break;
      if (shift > 14) fail();
    }
    if (value > 0xffff) fail();
    halves[i] = value;
  }
  if (at !== packed.length) fail();
  return bytesReader(new Uint8Array(halves.buffer));
}

function bytesReader(bytes: Uint8Array): DataReader {
  let position = 0;
  return {
    read(into) {
      const part = bytes.subarray(position, position + into.length);
      into.set(part);
      position += part.length;
      return Promise.resolve(part.length);
    },
    skip(count) {
      const skipped = Math.min(count, bytes.length - position);
      position += skipped;
      return Promise.resolve(skipped);
    },
  };
}
