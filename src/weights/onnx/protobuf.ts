import { PbfReader } from 'pbf';
import type { ByteCursor } from '../bytes/cursor.js';

/*
 * Protocol buffers: a message is fields, each a tag (number and wire type) and a value. Small messages are read whole
 * with pbf; a large one is walked field by field through the file. pbf trusts its bytes, so lengths are checked here
 * before it follows them. Format: https://protobuf.dev/programming-guides/encoding/
 */

export const VARINT = 0;
export const FIXED64 = 1;
export const BYTES = 2;
export const FIXED32 = 5;

const TAG_BYTES = 10;
const MAX_VARINT_BYTES = 10;

/** A field of a message in a file; the cursor is at its value. */
export interface FileField {
  readonly number: number;
  readonly type: number;
  /** A varint's value. */
  readonly value: number;
  /** Where the value ends. */
  readonly end: number;
}

/** Of a file; a VGG's graph has some thousands, and each takes microseconds. */
const MAX_FIELDS = 2 ** 18;
const walked = new WeakMap<ByteCursor, number>();

/**
 * Walks the fields of the message from the cursor to `end`. What a caller does not read of a field is passed over.
 * @param what the message, for errors: 'the graph'
 */
export async function* fieldsOf(
  cursor: ByteCursor,
  end: number,
  what: string,
): AsyncGenerator<FileField, void, undefined> {
  while (cursor.position < end) {
    const start = cursor.position;
    const count = (walked.get(cursor) ?? 0) + 1;
    if (count > MAX_FIELDS) cursor.fail(`over ${MAX_FIELDS} fields, at byte ${start} of ${what}`);
    walked.set(cursor, count);
    const bytes = await cursor.peek(Math.min(end - start, TAG_BYTES + MAX_VARINT_BYTES));
    if (bytes.length === 0) return cursor.fail(`ends early at byte ${start}, within ${what}, which ends at ${end}`);
    const pbf = new PbfReader(bytes);
    const tag = varint(pbf, bytes.length) ?? cursor.fail(`${what} has no field at byte ${start}`);
    const number = Math.floor(tag / 8);
    const type = tag % 8;
    const value = type === VARINT || type === BYTES ? varint(pbf, bytes.length) : 0;
    if (value === undefined || number < 1 || ![VARINT, FIXED64, BYTES, FIXED32].includes(type)) {
      return cursor.fail(`${what} has no field at byte ${start}`);
    }
    const header = pbf.pos;
    const length = type === FIXED64 ? 8 : type === FIXED32 ? 4 : type === BYTES ? value : 0;
    const stop = start + header + length;
    if (!(length >= 0 && stop <= end)) {
      cursor.fail(`field ${number} of ${what} at byte ${start} ends at ${stop}, and ${what} ends at ${end}`);
    }
    await cursor.skip(header);
    yield { number, type, value, end: stop };
    const left = stop - cursor.position;
    if (left > 0 && (await cursor.skip(left)) < left) {
      cursor.fail(`ends early at byte ${cursor.position}, within ${what}, which ends at ${end}`);
    }
  }
}

/** A whole message in memory, read with every length checked. */
export class Message {
  readonly #pbf: PbfReader;
  readonly #end: number;
  readonly #fail: () => never;
  number = 0;
  type = 0;

  constructor(bytes: Uint8Array, fail: () => never) {
    this.#pbf = new PbfReader(bytes);
    this.#end = bytes.length;
    this.#fail = fail;
  }

  /** Goes to the next field; false at the end. `bytes`, `text` or `skip` must follow. */
  next(): boolean {
    if (this.#pbf.pos >= this.#end) return false;
    const tag = this.#varint();
    this.number = Math.floor(tag / 8);
    this.type = tag % 8;
    if (this.number < 1) this.#fail();
    return true;
  }

  /** Appends the integers that the whole message is. */
  packed(into: number[]): void {
    while (this.#pbf.pos < this.#end) into.push(this.#varint());
  }

  bytes(): Uint8Array {
    if (this.type !== BYTES) this.#fail();
    const length = this.#varint();
    const start = this.#pbf.pos;
    if (!(length >= 0 && start + length <= this.#end)) this.#fail();
    this.#pbf.pos = start + length;
    return this.#pbf.buf.subarray(start, start + length);
  }

  text(): string {
    return new TextDecoder().decode(this.bytes());
  }

  skip(): void {
    if (this.type === VARINT) this.#varint();
    else if (this.type === BYTES) this.bytes();
    else if (this.type === FIXED32) this.#pbf.pos += 4;
    else if (this.type === FIXED64) this.#pbf.pos += 8;
    else this.#fail();
    if (this.#pbf.pos > this.#end) this.#fail();
  }

  #varint(): number {
    return varint(this.#pbf, this.#end) ?? this.#fail();
  }
}

/** A signed varint, or undefined if the bytes end before it does or it is too long. */
function varint(pbf: PbfReader, end: number): number | undefined {
  let last = pbf.pos;
  while (last < end && (pbf.buf[last] as number) > 0x7f) last++;
  if (last >= end || last - pbf.pos >= MAX_VARINT_BYTES) return undefined;
  const value = pbf.readVarint(true);
  return Number.isSafeInteger(value) ? value : Math.sign(value) * Number.MAX_SAFE_INTEGER;
}
