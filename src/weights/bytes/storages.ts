import type { ParameterChunk } from '../../backend.js';
import { VGGNetError } from '../../errors.js';
import { numel } from '../../tensor.js';
import { type FloatDtype, isBatchCount, isFloatDtype, toFloat32 } from '../dtype.js';
import { quoteName } from '../safetensors/header.js';
import { checkWanted, type WeightSource } from '../source.js';
import type { ByteCursor, DataReader } from './cursor.js';
import { extentOf, gather, isContiguous, type Storage, type ViewEntry } from './view.js';

/** Bytes of float32 given at once. */
const CHUNK_BYTES = 2 ** 20;
/** Elements put in order at once: the more rows of a transposed tensor, the more of each cache line is used. */
const GATHER_ELEMENTS = 2 ** 20;
/** A storage of unknown truth is read in parts of this size, so that a false length costs nothing. */
const PART_BYTES = 2 ** 22;

/** A file as storages in the order of its bytes, and tensors that are views of them. */
export interface StorageFile {
  readonly entries: readonly ViewEntry[];
  readonly metadata?: Readonly<Record<string, string>>;
  /**
   * Visits storages, all those of `wanted` among them, each once; and checks what can only be checked while reading.
   * What a visitor does not read of a storage is passed over.
   */
  storages(wanted: ReadonlySet<Storage>): AsyncIterable<{ readonly storage: Storage; readonly data: DataReader }>;
}

/**
 * A weight source of views. A tensor whose elements lie in order is given as it is read. Where tensors overlap, and
 * for one that is transposed or otherwise strided, the part of the storage that they cover is held: for one tensor of
 * a storage, at most that tensor.
 */
export class StorageSource implements WeightSource {
  readonly entries: readonly ViewEntry[];
  readonly metadata: Readonly<Record<string, string>>;
  readonly #file: StorageFile;
  readonly #cursor: ByteCursor;
  #state: 'new' | 'read' | 'closed' = 'new';
  #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  /**
   * Takes ownership of the cursor.
   * @throws VGGNetError `INVALID_WEIGHTS_FILE` if the tensors are out of all proportion to the file
   */
  constructor(file: StorageFile, cursor: ByteCursor) {
    checkExpansion(file.entries, cursor);
    this.entries = file.entries;
    this.metadata = file.metadata ?? {};
    this.#file = file;
    this.#cursor = cursor;
  }

  async *chunks(wanted: ReadonlySet<string>, signal?: AbortSignal): AsyncGenerator<ParameterChunk, void, undefined> {
    const { label } = this.#cursor;
    if (this.#state === 'closed') throw new VGGNetError('DISPOSED', `${label} is closed`);
    if (this.#state === 'read') throw new VGGNetError('INVALID_ARGUMENT', `${label} was read before`);
    this.#state = 'read';
    try {
      this.#cursor.listen(signal);
      checkWanted(this.entries, wanted, label);
      const views = new Map<Storage, ViewEntry[]>();
      for (const entry of this.entries) {
        if (!wanted.has(entry.name) || !isFloatDtype(entry.dtype) || isBatchCount(entry.name)) continue;
        const { storage } = entry.layout;
        const here = views.get(storage);
        if (here) here.push(entry);
        else views.set(storage, [entry]);
      }
      const left = new Set(views.keys());
      for await (const { storage, data } of this.#file.storages(left)) {
        const here = views.get(storage);
        if (!here || !left.delete(storage)) continue;
        yield* this.#readStorage(storage, here, data);
      }
      for (const storage of left) this.#cursor.fail(`${storage.label} is missing`);
      await this.#cursor.finish();
    } finally {
      await this.close();
    }
  }

  async close(): Promise<void> {
    this.#state = 'closed';
    this.#buffer = new Uint8Array(0);
    await this.#cursor.close();
  }

  async *#readStorage(
    storage: Storage,
    views: readonly ViewEntry[],
    data: DataReader,
  ): AsyncGenerator<ParameterChunk, void, undefined> {
    let position = 0;
    for (const { members, begin, end } of groupsOf(views)) {
      const gap = begin - position;
      if ((await data.skip(gap)) < gap) this.#endsEarly(storage, members);
      const [only] = members as [ViewEntry];
      if (members.length === 1 && isContiguous(only.layout)) {
        yield* this.#stream(only, end - begin, data);
      } else {
        // From a multiple of 8, so that elements of every width are aligned.
        const lead = begin % 8;
        const raw = await this.#hold(end - begin, lead, members, data);
        for (const member of members) yield* this.#pick(member, raw, begin - lead);
      }
      position = end;
    }
  }

  async *#stream(
    { name, dtype, layout }: ViewEntry,
    byteLength: number,
    data: DataReader,
  ): AsyncGenerator<ParameterChunk, void, undefined> {
    const { width, storage } = layout;
    const most = chunkElements(width) * width;
    for (let offset = 0; offset < byteLength; offset += most) {
      const raw = this.#take(Math.min(most, byteLength - offset));
      if ((await data.read(raw)) < raw.length) this.#endsEarly(storage, [{ name }]);
      yield { name, offset: offset / width, data: toFloat32(raw, dtype as FloatDtype) };
    }
  }

  /** Reads a part of a storage whole, behind `lead` bytes. */
  async #hold(
    length: number,
    lead: number,
    members: readonly ViewEntry[],
    data: DataReader,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const storage = (members[0] as ViewEntry).layout.storage;
    // Bytes that a file has may be asked for at once.
    if (this.#cursor.size !== undefined && storage.byteLength <= this.#cursor.size) {
      const whole = allocate(lead + length, storage);
      if ((await data.read(whole.subarray(lead))) < length) this.#endsEarly(storage, members);
      return whole;
    }
    const parts: Uint8Array<ArrayBuffer>[] = [];
    for (let read = 0; read < length; ) {
      const part = allocate(Math.min(PART_BYTES, length - read), storage);
      if ((await data.read(part)) < part.length) this.#endsEarly(storage, members);
      parts.push(part);
      read += part.length;
    }
    if (parts.length === 1 && lead === 0) return parts[0] as Uint8Array<ArrayBuffer>;
    const whole = allocate(lead + length, storage);
    let at = lead;
    for (const [i, part] of parts.entries()) {
      whole.set(part, at);
      at += part.length;
      // Let go at once, so that the two copies are not there together.
      parts[i] = new Uint8Array(0);
    }
    return whole;
  }

  *#pick(
    { name, dtype, layout }: ViewEntry,
    raw: Uint8Array<ArrayBuffer>,
    rawStart: number,
  ): Generator<ParameterChunk, void, undefined> {
    const { width } = layout;
    const most = chunkElements(width);
    const into = this.#take(GATHER_ELEMENTS * width);
    let offset = 0;
    for (const count of gather(layout, raw, rawStart, into)) {
      for (let start = 0; start < count; start += most) {
        const part = into.subarray(start * width, Math.min(start + most, count) * width);
        yield { name, offset, data: toFloat32(part, dtype as FloatDtype) };
        offset += part.length / width;
      }
    }
  }

  /** The one buffer that all values go through. */
  #take(length: number): Uint8Array<ArrayBuffer> {
    if (this.#buffer.length < length) this.#buffer = new Uint8Array(length);
    return this.#buffer.subarray(0, length);
  }

  #endsEarly(storage: Storage, tensors: readonly { readonly name: string }[]): never {
    const names = tensors.slice(0, 3).map(({ name }) => quoteName(name));
    this.#cursor.fail(`ends early at byte ${this.#cursor.position}, in ${storage.label} of tensor ${names.join(', ')}`);
  }
}

/** Halves become twice as many bytes, and a weight may be used twice. */
const MAX_EXPANSION = 4;
/** Pruned weights deflate to a tenth; zeros to a thousandth. */
const MAX_INFLATION = 32;
/** Small files may be out of proportion: biases that are one value, expanded, and freshly initialized networks. */
const EXPANSION_ALLOWANCE = 2 ** 24;

/**
 * Tensors may share storages, repeat values and be deflated; so a small file can describe gigabytes. One bound holds
 * for all tensors of a file together.
 */
function checkExpansion(entries: readonly ViewEntry[], cursor: ByteCursor): void {
  const storages = new Set(entries.map(({ layout }) => layout.storage));
  let most = EXPANSION_ALLOWANCE;
  for (const { byteLength, fileBytes = byteLength } of storages) {
    most += MAX_EXPANSION * Math.min(byteLength, MAX_INFLATION * fileBytes);
  }
  const wanted = entries.filter(({ dtype }) => isFloatDtype(dtype));
  const needed = wanted.reduce((sum, { shape }) => sum + numel(shape) * Float32Array.BYTES_PER_ELEMENT, 0);
  if (needed <= most) return;
  cursor.fail(
    `its tensors are ${needed} bytes as float32, over the ${most} that a file with so few bytes of values may have`,
  );
}

function chunkElements(width: number): number {
  return CHUNK_BYTES / Math.max(width, Float32Array.BYTES_PER_ELEMENT);
}

function allocate(length: number, storage: Storage): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(length);
  } catch (cause) {
    throw new VGGNetError('OUT_OF_MEMORY', `Could not allocate ${length} bytes to read ${storage.label}`, { cause });
  }
}

interface Group {
  readonly members: ViewEntry[];
  readonly begin: number;
  end: number;
}

/** Views in the order of their bytes; those that overlap are together. */
function groupsOf(views: readonly ViewEntry[]): Group[] {
  const sorted = views
    .map((view) => ({ view, ...extentOf(view.layout) }))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  const groups: Group[] = [];
  for (const { view, begin, end } of sorted) {
    const last = groups.at(-1);
    if (last && begin < last.end) {
      last.members.push(view);
      last.end = Math.max(last.end, end);
    } else {
      groups.push({ members: [view], begin, end });
    }
  }
  return groups;
}
