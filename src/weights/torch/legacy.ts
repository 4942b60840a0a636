import type { ByteCursor } from '../bytes/cursor.js';
import { StorageSource } from '../bytes/storages.js';
import type { Storage, ViewEntry } from '../bytes/view.js';
import { quoteName } from '../safetensors/header.js';
import { PLAIN, TorchContext } from './allowed.js';
import { stateDictOf, type TorchOptions } from './state-dict.js';
import type { TorchStorage } from './tensor.js';
import { readPickle } from './unpickle.js';
import { kindOfPickle, PickleDict, PickleList, type PickleValue } from './values.js';

/*
 * PyTorch's format before 1.6, in which the official files of 2014 to 2019 are: pickles of a magic number, of a
 * version, of the writer's word sizes, of the object and of the storages' keys; then for each key the number of its
 * elements (8 bytes) and the elements.
 */

const MAGIC = 0x1950a86a20f9469cfc6cn;
const VERSION = 1001;
const COUNT_BYTES = 8;

/** @throws VGGNetError `INVALID_WEIGHTS_FILE` */
export async function openTorchLegacy(cursor: ByteCursor, { key }: TorchOptions = {}): Promise<StorageSource> {
  if ((await readPickle(cursor, PLAIN)) !== MAGIC) {
    cursor.fail(
      'expected a PyTorch checkpoint, got a pickle without its magic number; save weights by torch.save, and NumPy arrays by numpy.savez',
    );
  }
  const version = await readPickle(cursor, PLAIN);
  if (version !== VERSION)
    cursor.fail(
      `expected version ${VERSION} of the legacy format, got ${typeof version === 'number' ? version : kindOfPickle(version)}`,
    );
  checkSystem(await readPickle(cursor, PLAIN), cursor);
  const context = new TorchContext();
  const entries = stateDictOf(await readPickle(cursor, context), cursor, key);
  const order = readOrder(await readPickle(cursor, PLAIN), context, cursor);
  const begin = cursor.position;
  const places = new Map<Storage, number>();
  let end = begin;
  for (const storage of order) {
    places.set(storage, end);
    end += COUNT_BYTES + storage.byteLength;
  }
  if (cursor.size !== undefined && cursor.size !== end) {
    cursor.fail(`the storages go from byte ${begin} to ${end}, and the file ends at ${cursor.size}`);
  }
  const placeOf = ({ layout }: ViewEntry): number => places.get(layout.storage) as number;
  entries.sort((a, b) => placeOf(a) - placeOf(b) || a.layout.byteOffset - b.layout.byteOffset);
  return new StorageSource({ entries, storages: (wanted) => walk(cursor, order, wanted) }, cursor);
}

function checkSystem(system: PickleValue, cursor: ByteCursor): void {
  if (!(system instanceof PickleDict)) cursor.fail('expected the word sizes of the writer as a dict');
  if (system.entries.get('little_endian') !== true)
    cursor.fail('expected values in little-endian order, got big-endian');
}

function readOrder(keys: PickleValue, context: TorchContext, cursor: ByteCursor): TorchStorage[] {
  const list = keys instanceof PickleList ? keys.items : cursor.fail("expected a list of the storages' keys");
  const left = new Map(context.storages);
  const order = list.map((key) => {
    const storage = typeof key === 'string' ? left.get(key) : undefined;
    if (!storage)
      cursor.fail(
        `storage ${typeof key === 'string' ? quoteName(key) : kindOfPickle(key)} is listed twice, or is not one of the pickle`,
      );
    left.delete(storage.key);
    return storage;
  });
  for (const storage of left.values()) cursor.fail(`${storage.label} is missing`);
  return order;
}

async function* walk(
  cursor: ByteCursor,
  order: readonly TorchStorage[],
  wanted: ReadonlySet<Storage>,
): AsyncGenerator<{ storage: Storage; data: ByteCursor }, void, undefined> {
  for (const storage of order) {
    const bytes = await cursor.take(COUNT_BYTES, `the size of ${storage.label}`);
    const count = new DataView(bytes.buffer).getBigUint64(0, true);
    const expected = BigInt(storage.byteLength / (storage.type?.width ?? 1));
    if (count !== expected) {
      cursor.fail(
        `${storage.label} at byte ${cursor.position} has ${count} elements, and the pickle asks for ${expected}`,
      );
    }
    const end = cursor.position + storage.byteLength;
    if (wanted.has(storage)) yield { storage, data: cursor };
    const left = end - cursor.position;
    if ((await cursor.skip(left)) < left) cursor.fail(`ends early at byte ${cursor.position}, in ${storage.label}`);
  }
  if ((await cursor.peek(1)).length > 0)
    cursor.fail(`bytes follow the last storage, which ends at byte ${cursor.position}`);
}
