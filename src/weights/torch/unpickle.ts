import type { ByteCursor } from '../bytes/cursor.js';
import { quoteName } from '../safetensors/header.js';
import {
  isGlobal,
  isObject,
  PickleCallError,
  type PickleContext,
  PickleDict,
  type PickleGlobal,
  PickleList,
  PickleOpaque,
  PickleTuple,
  type PickleValue,
} from './values.js';

/*
 * Reads pickles as data. A pickle is a program for a small stack machine, and Python's own reader lets it call
 * anything; here it can make numbers, strings, tuples, lists and dicts, and what a list of its caller knows. All else
 * that it names is an opaque, which is never called. Opcodes: Python's pickletools.
 */

/** A pickle of a state dict has some kilobytes. */
const MAX_BYTES = 2 ** 24;
/** About 25 for a tensor: forty thousand tensors, or a history of a million numbers. */
const MAX_STEPS = 2 ** 20;
/**
 * What a pickle makes may take so much memory, roughly counted. Steps alone are no bound: one that copies a list of the
 * memo makes as many values as that has.
 */
const MAX_MADE_BYTES = 2 ** 26;
const OBJECT_BYTES = 64;
const VALUE_BYTES = 16;
/** Of a key and its value in a dict. */
const PAIR_BYTES = 48;
/** Of an entry of the memo, a map that copies itself whenever it has doubled. */
const MEMO_BYTES = 96;
const FIRST_BYTES = 2 ** 14;
const DECODER = new TextDecoder();

/** Thrown where the bytes so far end. */
class EndOfBytes extends Error {}

/**
 * Reads the pickle at the cursor, and passes over it.
 * @param see is given its bytes
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` that names the byte and the opcode or name that is not allowed
 */
export async function readPickle(
  cursor: ByteCursor,
  context: PickleContext,
  see?: (bytes: Uint8Array) => void,
): Promise<PickleValue> {
  const start = cursor.position;
  // A pickle does not say how long it is. If the bytes are too few it is read again with more of them.
  for (let length = FIRST_BYTES; ; length *= 4) {
    const bytes = await cursor.peek(Math.min(length, MAX_BYTES));
    const machine = new Machine(bytes, context, (at, what) => cursor.fail(`byte ${start + at}: ${what}`));
    try {
      const value = machine.run();
      see?.(bytes.subarray(0, machine.at));
      await cursor.skip(machine.at);
      return value;
    } catch (error) {
      if (!(error instanceof EndOfBytes)) throw error;
      if (bytes.length < Math.min(length, MAX_BYTES)) {
        cursor.fail(`ends early at byte ${start + bytes.length}, within the pickle that begins at byte ${start}`);
      }
      if (length >= MAX_BYTES) {
        cursor.fail(
          `the pickle at byte ${start} has over ${MAX_BYTES} bytes. A state dict's has some kilobytes, as its values are elsewhere; save NumPy arrays by numpy.savez`,
        );
      }
    }
  }
}

/** Opcodes that Python's pickler does not write in protocols 2 to 5, and those of extensions, named in messages. */
const REFUSED: Readonly<Record<number, string>> = {
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
  130: 'EXT1',
  131: 'EXT2',
  132: 'EXT4',
  151: 'NEXT_BUFFER',
  152: 'READONLY_BUFFER',
};

/** Values of which nothing is wanted: one of each kind stands for all. */
const BYTES = new PickleOpaque('bytes');
const SET = new PickleOpaque('set');
const EMPTY_TUPLE = new PickleTuple([]);

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
  readonly #opaques = new Map<string, PickleOpaque>();
  #spent = 0;
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
        return this.#text(this.#length64());
      case 0x43: // SHORT_BINBYTES
        return this.#passOver(this.#byte());
      case 0x42: // BINBYTES
        return this.#passOver(this.#length32());
      case 0x8e: // BINBYTES8
      case 0x96: // BYTEARRAY8
        return this.#passOver(this.#length64());
      case 0x8f: // EMPTY_SET
        return SET;
      case 0x91: // FROZENSET
        this.#popToMark();
        return SET;
      case 0x29: // EMPTY_TUPLE
        return EMPTY_TUPLE;
      case 0x85: // TUPLE1
      case 0x86: // TUPLE2
      case 0x87: // TUPLE3
        return this.#tuple(this.#popMany(opcode - 0x84));
      case 0x74: // TUPLE
        return this.#tuple(this.#popToMark());
      case 0x5d: // EMPTY_LIST
        this.#spend(2 * OBJECT_BYTES);
        return new PickleList();
      case 0x7d: // EMPTY_DICT
        this.#spend(4 * OBJECT_BYTES);
        return new PickleDict();
      case 0x32: {
        // DUP
        return this.#top();
      }
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
        this.#spend(4 * OBJECT_BYTES);
        return this.#context.load(this.#pop()) ?? this.#fail('an id that is not of a storage');
      case 0x52: // REDUCE
      case 0x81: {
        // NEWOBJ
        const [callee, args] = this.#popMany(2) as [PickleValue, PickleValue];
        return this.#call(callee, args);
      }
      case 0x92: {
        // NEWOBJ_EX
        const [callee, args] = this.#popMany(3) as [PickleValue, PickleValue];
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
        this.#remember(this.#byte());
        break;
      case 0x72: // LONG_BINPUT
        this.#remember(this.#length32());
        break;
      case 0x94: // MEMOIZE
        this.#remember(this.#memo.size);
        break;
      case 0x30: // POP
        // Python's pops a mark where one is on top.
        if (this.#marks.at(-1) === this.#stack.length) this.#marks.pop();
        else this.#pop();
        break;
      case 0x31: // POP_MARK
        this.#popToMark();
        break;
      case 0x90: // ADDITEMS
        this.#popToMark();
        if (!(this.#top() instanceof PickleOpaque)) this.#fail('only a set can be added to');
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

  /** Counts what is made. */
  #spend(bytes: number): void {
    this.#spent += bytes;
    if (this.#spent > MAX_MADE_BYTES) this.#fail(`the pickle makes values of over ${MAX_MADE_BYTES} bytes`);
  }

  #tuple(items: readonly PickleValue[]): PickleTuple {
    this.#spend(OBJECT_BYTES + items.length * VALUE_BYTES);
    return new PickleTuple(items);
  }

  #passOver(length: number): PickleOpaque {
    if (length > MAX_BYTES) this.#fail(`a value of ${length} bytes`);
    this.#take(length);
    return BYTES;
  }

  #remember(index: number): void {
    this.#spend(MEMO_BYTES);
    this.#memo.set(index, this.#top());
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

  #length64(): number {
    return Number(this.#view.getBigUint64(this.#take(8), true));
  }

  #text(length: number): string {
    if (length > MAX_BYTES) this.#fail(`a string of ${length} bytes`);
    this.#spend(OBJECT_BYTES + 2 * length);
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
    const value = this.#top();
    this.#stack.pop();
    return value;
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
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) this.#fail('the stack is empty');
    return this.#stack.at(-1) as PickleValue;
  }

  #append(items: readonly PickleValue[]): void {
    const list = this.#top();
    if (list instanceof PickleOpaque) return;
    if (!(list instanceof PickleList)) this.#fail('only a list can be appended to');
    this.#spend(items.length * VALUE_BYTES);
    for (const item of items) list.items.push(item);
  }

  #setItems(items: readonly PickleValue[]): void {
    const dict = this.#top();
    if (dict instanceof PickleOpaque) return;
    if (!(dict instanceof PickleDict) || items.length % 2 !== 0) this.#fail('only a dict takes keys and values');
    this.#spend((items.length / 2) * PAIR_BYTES);
    for (let i = 0; i < items.length; i += 2) {
      const key = items[i] as PickleValue;
      if (typeof key === 'string' && dict.entries.has(key)) this.#fail(`the key ${quoteName(key)} comes twice`);
      dict.entries.set(key, items[i + 1] as PickleValue);
    }
  }

  #recall(index: number): PickleValue {
    return this.#memo.get(index) ?? (this.#memo.has(index) ? null : this.#fail(`memo ${index} was not put`));
  }

  #global(module: PickleValue | undefined, name: PickleValue | undefined): PickleGlobal | PickleOpaque {
    if (typeof module !== 'string' || typeof name !== 'string') this.#fail('a name that is no string');
    const full = `${module}.${name}`;
    const known = this.#context.findGlobal(full) ?? this.#opaques.get(full);
    if (known) return known;
    this.#spend(4 * OBJECT_BYTES + 2 * full.length);
    const opaque = new PickleOpaque(full);
    this.#opaques.set(full, opaque);
    return opaque;
  }

  #call(callee: PickleValue, args: PickleValue): PickleValue {
    if (callee instanceof PickleOpaque) return callee;
    if (!isGlobal(callee) || !callee.call) this.#fail('the pickle calls what cannot be called');
    const name = quoteName(callee.name);
    const opaque = opaqueIn(args);
    if (opaque && (callee.makesTensor || args instanceof PickleOpaque)) {
      this.#spend(OBJECT_BYTES);
      return new PickleOpaque(callee.name, callee.makesTensor ? (opaque.tensorOf ?? opaque.name) : undefined);
    }
    if (!(args instanceof PickleTuple)) this.#fail(`${name} is called without a tuple`);
    this.#spend(4 * OBJECT_BYTES);
    const spend = (values: number): void => this.#spend(values * VALUE_BYTES);
    try {
      return callee.call(args.items, spend) ?? this.#fail(`${name} is called with arguments that are not right`);
    } catch (error) {
      // A check that knows what is wrong, and not where.
      if (error instanceof PickleCallError) this.#fail(`${name}: ${error.message}`);
      throw error;
    }
  }

  #build(state: PickleValue): void {
    const target = this.#top();
    // Attributes of a dict: PyTorch puts version numbers there.
    if (target instanceof PickleDict || target instanceof PickleOpaque) return;
    if (!isObject(target) || !target.setState(state)) this.#fail('the pickle sets a state that is not right');
  }
}

/** The opaque that arguments are or have among them. */
function opaqueIn(args: PickleValue): PickleOpaque | undefined {
  if (args instanceof PickleOpaque) return args;
  if (!(args instanceof PickleTuple)) return undefined;
  return args.items.find((item) => item instanceof PickleOpaque);
}
