import type { ByteCursor } from '../bytes/cursor.js';
import { quoteName } from '../safetensors/header.js';

/*
 * Reads pickles as data. A pickle is a program for a small stack machine, and Python's own reader lets it call
 * anything; here it can make numbers, strings, tuples, lists and dicts, and name what a list of its caller allows.
 * Opcodes: Python's pickletools.
 */

export class PickleTuple {
  readonly items: readonly PickleValue[];
  constructor(items: readonly PickleValue[]) {
    this.items = items;
  }
}
export class PickleList {
  readonly items: PickleValue[] = [];
}
export class PickleDict {
  readonly entries: Map<PickleValue, PickleValue> = new Map();
}

/** What a pickle names by module and name. */
export interface PickleGlobal {
  readonly name: string;
  /** What it gives if the pickle calls it; undefined if the arguments are not right. Left out if it is not called. */
  readonly call?: (args: readonly PickleValue[]) => PickleValue | undefined;
}

/** An object that only the caller knows. */
export interface PickleObject {
  /** Takes the state that Python's `__setstate__` would; false if it is not right. */
  setState(state: PickleValue): boolean;
}

export type PickleValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | PickleTuple
  | PickleList
  | PickleDict
  | PickleGlobal
  | PickleObject;

export interface PickleContext {
  /** What a name stands for; undefined if it is not allowed. */
  findGlobal(name: string): PickleGlobal | undefined;
  /** What an id from outside the pickle stands for: PyTorch's storages. Undefined if it is not right. */
  load(id: PickleValue): PickleValue | undefined;
}

/** A pickle of a state dict has some kilobytes. */
const MAX_BYTES = 2 ** 24;
/** About 25 for a tensor: ten thousand tensors. A VGG has a few dozen, and an optimizer's state two for each. */
const MAX_STEPS = 2 ** 18;
const FIRST_BYTES = 2 ** 14;
const DECODER = new TextDecoder();

/** Thrown where the bytes so far end. */
class EndOfBytes extends Error {}

/**
 * Reads the pickle at the cursor, and passes over it.
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` that names the byte and the opcode or name that is not allowed
 */
export async function readPickle(cursor: ByteCursor, context: PickleContext): Promise<PickleValue> {
  const start = cursor.position;
  // A pickle does not say how long it is. If the bytes are too few it is read again with more of them.
  for (let length = FIRST_BYTES; ; length *= 4) {
    const bytes = await cursor.peek(Math.min(length, MAX_BYTES));
    const machine = new Machine(bytes, context, (at, what) => cursor.fail(`byte ${start + at}: ${what}`));
    try {
      const value = machine.run();
      await cursor.skip(machine.at);
      return value;
    } catch (error) {
      if (!(error instanceof EndOfBytes)) throw error;
      if (bytes.length < Math.min(length, MAX_BYTES)) {
        cursor.fail(`ends early at byte ${start + bytes.length}, within the pickle that begins at byte ${start}`);
      }
      if (length >= MAX_BYTES) cursor.fail(`the pickle at byte ${start} has over ${MAX_BYTES} bytes`);
    }
  }
}

/** Opcodes that a state dict does not need, named in messages. */
const REFUSED: Readonly<Record<number, string>> = {
  48: 'POP',
  49: 'POP_MARK',
  50: 'DUP',
  70: 'FLOAT',
  73: 'INT',
  76: 'LONG',
  80: 'PERSID',
  83: 'STRING',
  86: 'UNICODE',
  100: 'DICT',
  103: 'GET',
  105: 'INST',
  108: 'LIST',
  111: 'OBJ',
  112: 'PUT',
  66: 'BINBYTES',
  67: 'SHORT_BINBYTES',
  130: 'EXT1',
  131: 'EXT2',
  132: 'EXT4',
  142: 'BINBYTES8',
  143: 'EMPTY_SET',
  144: 'ADDITEMS',
  145: 'FROZENSET',
  146: 'NEWOBJ_EX',
  150: 'BYTEARRAY8',
  151: 'NEXT_BUFFER',
  152: 'READONLY_BUFFER',
};

class Machine {
  /** The next byte. */
  at = 0;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView;
  readonly #context: PickleContext;
  readonly #failAt: (at: number, what: string) => never;
  readonly #stack: PickleValue[] = [];
  /** Heights of the stack. */
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, PickleValue>();
  /** Where the opcode in hand is. */
  #step = 0;

  constructor(bytes: Uint8Array<ArrayBuffer>, context: PickleContext, fail: (at: number, what: string) => never) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#context = context;
    this.#failAt = fail;
  }

  run(): PickleValue {
    for (let steps = 0; steps < MAX_STEPS; steps++) {
      this.#step = this.at;
      const opcode = this.#byte();
      if (opcode === 0x2e) return this.#pop(); // STOP
      const value = this.#literal(opcode);
      if (value === undefined) this.#execute(opcode);
      else this.#stack.push(value);
    }
    return this.#fail(`the pickle has over ${MAX_STEPS} steps`);
  }

  /** The value that an opcode stands for; undefined for one that does something else. */
  #literal(opcode: number): PickleValue | undefined {
    switch (opcode) {
      case 0x4e: // NONE
        return null;
      case 0x88: // NEWTRUE
        return true;
      case 0x89: // NEWFALSE
        return false;
      case 0x4a: // BININT
        return this.#view.getInt32(this.#take(4), true);
      case 0x4b: // BININT1
        return this.#byte();
      case 0x4d: // BININT2
        return this.#view.getUint16(this.#take(2), true);
      case 0x8a: // LONG1
        return this.#long(this.#byte());
      case 0x8b: // LONG4
        return this.#long(this.#length32());
      case 0x47: // BINFLOAT
        return this.#view.getFloat64(this.#take(8), false);
      case 0x58: // BINUNICODE
      case 0x54: // BINSTRING, of Python 2
        return this.#text(this.#length32());
      case 0x8c: // SHORT_BINUNICODE
      case 0x55: // SHORT_BINSTRING, of Python 2
        return this.#text(this.#byte());
      case 0x8d: // BINUNICODE8
        return this.#text(Number(this.#view.getBigUint64(this.#take(8), true)));
      case 0x29: // EMPTY_TUPLE
        return new PickleTuple([]);
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        return new PickleTuple(this.#popMany(opcode - 0x84));
      case 0x74: // TUPLE
        return new PickleTuple(this.#popToMark());
      case 0x5d: // EMPTY_LIST
        return new PickleList();
      case 0x7d: // EMPTY_DICT
        return new PickleDict();
      case 0x68: // BINGET
        return this.#recall(this.#byte());
      case 0x6a: // LONG_BINGET
        return this.#recall(this.#length32());
      case 0x63: // GLOBAL
        return this.#global(this.#line(), this.#line());
      case 0x93: {
        // STACK_GLOBAL
        const [module, name] = this.#popMany(2);
        return this.#global(module, name);
      }
      case 0x51: // BINPERSID
        return this.#context.load(this.#pop()) ?? this.#fail('an id that is not of a storage');
      case 0x52: // REDUCE
      case 0x81: {
        // NEWOBJ
        const [callee, args] = this.#popMany(2) as [PickleValue, PickleValue];
        return this.#call(callee, args);
      }
      default:
        return undefined;
    }
  }

  #execute(opcode: number): void {
    switch (opcode) {
      case 0x80: // PROTO
        this.#checkProtocol(this.#byte());
        break;
      case 0x95: // FRAME: its length, which nothing needs
        this.#take(8);
        break;
      case 0x28: // MARK
        this.#marks.push(this.#stack.length);
        break;
      case 0x61: // APPEND
        this.#append([this.#pop()]);
        break;
      case 0x65: // APPENDS
        this.#append(this.#popToMark());
        break;
      case 0x73: // SETITEM
        this.#setItems(this.#popMany(2));
        break;
      case 0x75: // SETITEMS
        this.#setItems(this.#popToMark());
        break;
      case 0x71: // BINPUT
        this.#memo.set(this.#byte(), this.#top());
        break;
      case 0x72: // LONG_BINPUT
        this.#memo.set(this.#length32(), this.#top());
        break;
      case 0x94: // MEMOIZE
        this.#memo.set(this.#memo.size, this.#top());
        break;
      case 0x62: // BUILD
        this.#build(this.#pop());
        break;
      default: {
        const known = REFUSED[opcode] ?? 'no opcode that is known';
        this.#fail(`opcode 0x${opcode.toString(16).padStart(2, '0')} (${known}) is not one that a state dict needs`);
      }
    }
  }

  #fail(what: string): never {
    return this.#failAt(this.#step, what);
  }

  #take(count: number): number {
    const start = this.at;
    if (start + count > this.#bytes.length) throw new EndOfBytes();
    this.at += count;
    return start;
  }

  #byte(): number {
    return this.#bytes[this.#take(1)] as number;
  }

  #length32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  #text(length: number): string {
    if (length > MAX_BYTES) this.#fail(`a string of ${length} bytes`);
    const start = this.#take(length);
    return DECODER.decode(this.#bytes.subarray(start, start + length));
  }

  /** Up to the end of the line. */
  #line(): string {
    const start = this.at;
    const end = this.#bytes.indexOf(0x0a, start);
    if (end < 0) {
      this.at = this.#bytes.length;
      throw new EndOfBytes();
    }
    this.at = end + 1;
    return DECODER.decode(this.#bytes.subarray(start, end));
  }

  /** Two's complement, the lowest byte first. */
  #long(length: number): number | bigint {
    if (length > 255) this.#fail(`an integer of ${length} bytes`);
    const start = this.#take(length);
    let value = 0n;
    for (let i = length - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#bytes[start + i] as number);
    const signed = BigInt.asIntN(length * 8, value);
    const number = Number(signed);
    return Number.isSafeInteger(number) ? number : signed;
  }

  /** What is above the last mark may be popped. */
  #popMany(count: number): PickleValue[] {
    const floor = this.#marks.at(-1) ?? 0;
    if (this.#stack.length - count < floor) this.#fail('the stack is empty');
    return this.#stack.splice(this.#stack.length - count, count);
  }

  #pop(): PickleValue {
    return this.#popMany(1)[0] as PickleValue;
  }

  #popToMark(): PickleValue[] {
    const mark = this.#marks.pop();
    if (mark === undefined) this.#fail('there is no mark on the stack');
    return this.#stack.splice(mark);
  }

  #checkProtocol(version: number): void {
    if (version < 2 || version > 5) this.#fail(`pickle protocol ${version}, expected 2 to 5`);
  }

  #top(): PickleValue {
    const value = this.#pop();
    this.#stack.push(value);
    return value;
  }

  #append(items: readonly PickleValue[]): void {
    const list = this.#top();
    if (!(list instanceof PickleList)) this.#fail('only a list can be appended to');
    for (const item of items) list.items.push(item);
  }

  #setItems(items: readonly PickleValue[]): void {
    const dict = this.#top();
    if (!(dict instanceof PickleDict) || items.length % 2 !== 0) this.#fail('only a dict takes keys and values');
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i] as PickleValue;
      if (typeof key === 'string' && dict.entries.has(key)) this.#fail(`the key ${quoteName(key)} comes twice`);
      dict.entries.set(key, items[i + 1] as PickleValue);
    }
  }

  #recall(index: number): PickleValue {
    return this.#memo.get(index) ?? (this.#memo.has(index) ? null : this.#fail(`memo ${index} was not put`));
  }

  #global(module: PickleValue | undefined, name: PickleValue | undefined): PickleGlobal {
    if (typeof module !== 'string' || typeof name !== 'string') this.#fail('a name that is no string');
    const full = `${module}.${name}`;
    const found = this.#context.findGlobal(full);
    return found ?? this.#fail(`the pickle asks for ${quoteName(full)}, which is not one that a state dict needs`);
  }

  #call(callee: PickleValue, args: PickleValue): PickleValue {
    if (!isGlobal(callee) || !callee.call) this.#fail('the pickle calls what cannot be called');
    const name = quoteName(callee.name);
    if (!(args instanceof PickleTuple)) this.#fail(`${name} is called without a tuple`);
    try {
      return callee.call(args.items) ?? this.#fail(`${name} is called with arguments that are not right`);
    } catch (error) {
      // A check that knows what is wrong, and not where.
      if (error instanceof PickleCallError) this.#fail(`${name}: ${error.message}`);
      throw error;
    }
  }

  #build(state: PickleValue): void {
    const target = this.#top();
    // Attributes of a dict: PyTorch puts version numbers there.
    if (target instanceof PickleDict) return;
    if (!isObject(target) || !target.setState(state)) this.#fail('the pickle sets a state that is not right');
  }
}

/** Thrown by a global's `call` to say what is wrong. */
export class PickleCallError extends Error {}

function isGlobal(value: PickleValue): value is PickleGlobal {
  return typeof value === 'object' && value !== null && 'name' in value;
}

function isObject(value: PickleValue): value is PickleObject {
  return typeof value === 'object' && value !== null && 'setState' in value;
}

/** What a value is, for a message. */
export function kindOfPickle(value: PickleValue): string {
  if (value === null) return 'None';
  if (value instanceof PickleDict) return 'a dict';
  if (value instanceof PickleList) return 'a list';
  if (value instanceof PickleTuple) return 'a tuple';
  if (typeof value === 'object') return isGlobal(value) ? quoteName(value.name) : 'a tensor';
  return `a ${typeof value}`;
}
