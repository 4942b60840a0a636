import type { ByteCursor, DataReader } from '../bytes/cursor.js';
import { type StorageFile, StorageSource } from '../bytes/storages.js';
import { CONFIG_KEY, encodeConfig } from '../metadata.js';
import { networkOf } from './graph.js';
import { type OnnxTensor, readModel } from './model.js';

/**
 * Opens an ONNX file: its graph is held against a VGG, whose tensors are then found by what the graph does with them,
 * and described by the source's metadata.
 * @param cursor must be able to seek: the graph's nodes and tensors may come in any order
 * @throws VGGNetError `INVALID_WEIGHTS_FILE`; `WEIGHTS_MISMATCH` that names the first difference from a VGG
 */
export async function openOnnx(cursor: ByteCursor): Promise<StorageSource> {
  const { config, entries } = networkOf(await readModel(cursor));
  const placeOf = (storage: unknown): number => (storage as OnnxTensor).start ?? 0;
  const file: StorageFile = {
    entries: [...entries].sort((a, b) => placeOf(a.layout.storage) - placeOf(b.layout.storage)),
    metadata: { [CONFIG_KEY]: encodeConfig(config) },
    async *storages(wanted) {
      const sorted = [...wanted].sort((a, b) => placeOf(a) - placeOf(b)) as OnnxTensor[];
      for (const tensor of sorted) {
        if (tensor.start !== undefined) cursor.seek(tensor.start);
        yield { storage: tensor, data: tensor.varints ? await readHalves(cursor, tensor) : cursor };
      }
    },
  };
  return new StorageSource(file, cursor);
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
