import { checked, damaged } from '../bytes/checked.js';
import { crc32 } from '../bytes/crc32.js';
import type { ByteCursor, DataReader } from '../bytes/cursor.js';
import { type StorageFile, StorageSource } from '../bytes/storages.js';
import type { Storage, ViewEntry } from '../bytes/view.js';
import {
  type LocalHeader,
  readDescriptor,
  readDirectory,
  readLocalHeader,
  readRest,
  seekEntry,
  takeUnsized,
  type ZipEntry,
} from '../bytes/zip.js';
import { quoteName } from '../safetensors/header.js';
import { TorchContext } from './allowed.js';
import { stateDictOf, type TorchOptions } from './state-dict.js';
import type { TorchStorage } from './tensor.js';
import { readPickle } from './unpickle.js';

/*
 * PyTorch's zip format, since 1.6: NAME/data.pkl is the pickle, NAME/data/KEY the bytes of each storage, uncompressed,
 * NAME/byteorder is 'little'. The pickle comes first, so that a stream can be read too; there, as PyTorch writes it,
 * an entry's size comes after its data, and the pickle says how long each storage is. The pickle's checksum is
 * compared; those of storages, which PyTorch itself does not look at, on request.
 */

const PICKLE = 'data.pkl';
/** Of entries that are no storage. */
const MAX_SMALL_BYTES = 2 ** 16;
/** A storage for each tensor of a model and its optimizer, and a few more. */
const MAX_ENTRIES = 2 ** 14;

/** @throws VGGNetError `INVALID_WEIGHTS_FILE` */
export async function openTorchZip(cursor: ByteCursor, options: TorchOptions = {}): Promise<StorageSource> {
  return cursor.canSeek ? openSeekable(cursor, options) : openStream(cursor, options);
}

/** Whether this is the pickle of an archive: at its top, or in its one folder. */
export function isTorchPickle(name: string): boolean {
  return name === PICKLE || (name.endsWith(`/${PICKLE}`) && name.indexOf('/') === name.length - PICKLE.length - 1);
}

function rootOf(pickleName: string): string {
  return pickleName.slice(0, -PICKLE.length);
}

function checkStored(cursor: ByteCursor, name: string, method: number): void {
  if (method === 0) return;
  cursor.fail(
    `entry ${quoteName(name)} is compressed (method ${method}); a PyTorch checkpoint's entries are stored as they are`,
  );
}

function checkByteOrder(cursor: ByteCursor, name: string, bytes: Uint8Array): void {
  const order = new TextDecoder().decode(bytes);
  if (order !== 'little')
    cursor.fail(`entry ${quoteName(name)}: expected values in 'little' order, got ${quoteName(order)}`);
}

function refuseScript(cursor: ByteCursor, name: string, root: string): void {
  if (name === `${root}constants.pkl`) {
    cursor.fail(
      `this is a TorchScript program (it has ${quoteName(name)}); save its weights by torch.save(torch.jit.load("model.pt").state_dict(), "weights.pth")`,
    );
  }
}

async function openSeekable(cursor: ByteCursor, options: TorchOptions): Promise<StorageSource> {
  const byName = new Map((await readDirectory(cursor)).map((entry) => [entry.name, entry]));
  const pickles = [...byName.keys()].filter(isTorchPickle);
  const [pickle] = pickles;
  if (pickle === undefined || pickles.length > 1) {
    return cursor.fail(`expected one ${PICKLE} in a PyTorch checkpoint, got ${pickles.length}`);
  }
  const root = rootOf(pickle);
  for (const name of byName.keys()) refuseScript(cursor, name, root);
  for (const { name, method, compressedSize, size } of byName.values()) {
    checkStored(cursor, name, method);
    if (size !== compressedSize)
      cursor.fail(`entry ${quoteName(name)} is stored, and has two sizes, ${size} and ${compressedSize}`);
  }
  const order = byName.get(`${root}byteorder`);
  if (order) {
    await seekEntry(cursor, order);
    if (order.size > MAX_SMALL_BYTES) cursor.fail(`entry ${quoteName(order.name)} has ${order.size} bytes`);
    checkByteOrder(cursor, order.name, await cursor.take(order.size, 'the byte order'));
  }
  const pickleEntry = byName.get(pickle) as ZipEntry;
  await seekEntry(cursor, pickleEntry);
  const start = cursor.position;
  const context = new TorchContext();
  let crc = 0;
  const object = await readPickle(cursor, context, (bytes) => {
    crc = crc32(bytes);
  });
  if (cursor.position - start !== pickleEntry.size) {
    cursor.fail(`the pickle ends at byte ${cursor.position}, its entry at ${start + pickleEntry.size}`);
  }
  checkCrc(cursor, pickleEntry.name, crc, pickleEntry.crc);
  const entries = stateDictOf(object, cursor, options.key);
  const places = new Map<Storage, ZipEntry>();
  for (const storage of context.storages.values()) {
    const name = `${root}data/${storage.key}`;
    const entry = byName.get(name);
    if (!entry) cursor.fail(`there is no entry ${quoteName(name)}, which the pickle asks for`);
    checkStorageSize(cursor, name, entry.size, storage);
    places.set(storage, entry);
  }
  const offsetOf = ({ layout }: ViewEntry): number => places.get(layout.storage)?.headerOffset ?? 0;
  entries.sort((a, b) => offsetOf(a) - offsetOf(b) || a.layout.byteOffset - b.layout.byteOffset);
  const file: StorageFile = {
    entries,
    async *storages(wanted) {
      const sorted = [...wanted].sort((a, b) => placeOf(a).headerOffset - placeOf(b).headerOffset);
      for (const storage of sorted) {
        const entry = placeOf(storage);
        await seekEntry(cursor, entry);
        if (!options.verify) {
          yield { storage, data: cursor };
          continue;
        }
        const start = cursor.position;
        const data = checked(cursor);
        yield { storage, data };
        await data.skip(start + entry.size - cursor.position);
        checkCrc(cursor, entry.name, data.crc(), entry.crc);
      }
    },
  };
  const placeOf = (storage: Storage): ZipEntry => places.get(storage) as ZipEntry;
  return new StorageSource(file, cursor);
}

/** PyTorch can be told to write no checksums (`torch.serialization.set_crc32_options`), which are then 0. */
function checkCrc(cursor: ByteCursor, name: string, got: number, expected: number): void {
  if (expected !== 0 && got !== expected) cursor.fail(damaged(`entry ${quoteName(name)}`, got, expected));
}

function checkStorageSize(cursor: ByteCursor, name: string, size: number, storage: Storage): void {
  if (size === storage.byteLength) return;
  cursor.fail(`entry ${quoteName(name)} has ${size} bytes, and the pickle asks for ${storage.byteLength}`);
}

async function openStream(cursor: ByteCursor, options: TorchOptions): Promise<StorageSource> {
  const first = await readLocalHeader(cursor);
  if (!first || !isTorchPickle(first.name)) {
    return cursor.fail(
      `a checkpoint that comes as a stream must begin with its ${PICKLE}, got ${quoteName(first?.name ?? 'nothing')}; read it from a file`,
    );
  }
  checkStored(cursor, first.name, first.method);
  const start = cursor.position;
  const context = new TorchContext();
  let crc = 0;
  const object = await readPickle(cursor, context, (bytes) => {
    crc = crc32(bytes);
  });
  const entries = stateDictOf(object, cursor, options.key);
  const size = cursor.position - start;
  if (first.size !== undefined && first.size !== size) {
    cursor.fail(`the pickle ends at byte ${cursor.position}, its entry at ${start + first.size}`);
  }
  checkCrc(cursor, first.name, crc, await readDescriptor(cursor, first, size));
  const root = rootOf(first.name);
  const byName = new Map([...context.storages.values()].map((storage) => [`${root}data/${storage.key}`, storage]));
  const seen: Seen[] = [{ header: first, size }];
  const walk = { cursor, root, byName, seen, verify: options.verify === true };
  return new StorageSource({ entries, storages: (wanted) => walkStream(walk, wanted) }, cursor);
}

/** What is known of a stream behind its pickle. */
interface StreamWalk {
  readonly cursor: ByteCursor;
  readonly root: string;
  readonly byName: ReadonlyMap<string, TorchStorage>;
  readonly seen: Seen[];
  readonly verify: boolean;
}

interface Seen {
  readonly header: LocalHeader;
  readonly size: number;
}

async function* walkStream(
  { cursor, root, byName, seen, verify }: StreamWalk,
  wanted: ReadonlySet<Storage>,
): AsyncGenerator<{ storage: Storage; data: DataReader }, void, undefined> {
  const names = new Set(seen.map(({ header }) => header.name));
  for (;;) {
    const header = await readLocalHeader(cursor);
    if (!header) break;
    const { name, method } = header;
    if (names.size === MAX_ENTRIES) cursor.fail(`over ${MAX_ENTRIES} entries`);
    if (names.has(name)) {
      cursor.fail(`two entries are called ${quoteName(name)}, the second at byte ${header.offset}`);
    }
    names.add(name);
    if (isTorchPickle(name)) cursor.fail(`a second pickle, ${quoteName(name)}, at byte ${header.offset}`);
    refuseScript(cursor, name, root);
    checkStored(cursor, name, method);
    const start = cursor.position;
    const storage = byName.get(name);
    let size: number;
    let crc: number | undefined;
    if (storage) {
      size = storage.byteLength;
      checkStorageSize(cursor, name, header.size ?? size, storage);
      const summed = verify ? checked(cursor) : undefined;
      const data = summed ?? cursor;
      if (wanted.has(storage)) yield { storage, data };
      const left = start + size - cursor.position;
      if ((await data.skip(left)) < left)
        cursor.fail(`ends early at byte ${cursor.position}, in entry ${quoteName(name)}`);
      crc = summed?.crc();
    } else {
      const bytes = await takeSmall(cursor, header);
      size = bytes.length;
      if (name === `${root}byteorder`) checkByteOrder(cursor, name, bytes);
    }
    const expected = await readDescriptor(cursor, header, size);
    if (crc !== undefined) checkCrc(cursor, name, crc, expected);
    seen.push({ header, size });
  }
  checkDirectory(cursor, await readRest(cursor), seen);
}

async function takeSmall(cursor: ByteCursor, header: LocalHeader): Promise<Uint8Array> {
  if (header.size === undefined) return takeUnsized(cursor, header, MAX_SMALL_BYTES);
  if (header.size > MAX_SMALL_BYTES) {
    cursor.fail(
      `entry ${quoteName(header.name)} at byte ${header.offset} has ${header.size} bytes and is no storage of the pickle`,
    );
  }
  return cursor.take(header.size, `entry ${quoteName(header.name)}`);
}

/** What a stream gave must be what the directory at its end lists. */
function checkDirectory(cursor: ByteCursor, directory: readonly ZipEntry[], seen: readonly Seen[]): void {
  const listed = directory.find(({ name, headerOffset, size }, i) => {
    const other = seen[i];
    return other?.header.name !== name || other.header.offset !== headerOffset || other.size !== size;
  });
  if (listed)
    cursor.fail(
      `the central directory lists ${quoteName(listed.name)} at byte ${listed.headerOffset}, where another was`,
    );
  if (directory.length !== seen.length) {
    cursor.fail(`the central directory lists ${directory.length} entries, and there were ${seen.length}`);
  }
}
