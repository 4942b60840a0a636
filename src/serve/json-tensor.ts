import { messageOf } from '../errors.js';
import { pause } from '../platform/event-loop.js';
import { quote, RequestError } from './failure.js';

/*
 * JSON with a long list of numbers in it. JSON.parse would block the thread for as long as the text is, and make of small
 * texts large heaps. So the list is read number by number into float32, a slice at a time, and JSON.parse gets the rest,
 * which is short.
 */

/** The most bytes of a document besides its numbers, and how deep it may be nested. */
const MAX_REST = 2 ** 16;
const MAX_DEPTH = 32;
/** Lists in lists: (N, C, H, W). */
const MAX_DATA_DEPTH = 4;
const MAX_NUMBER_CHARS = 400;
/** Digits of an integer that float64 holds, whichever they are. */
const MAX_DIGITS = 15;
/** Bytes that are read before other work has its turn: some milliseconds of it. */
const SLICE = 2 ** 17;

export interface Document {
  /** The JSON; the list of numbers is `true` in it. */
  readonly value: unknown;
  /** The numbers of `inputs[…].data`, in row-major order; undefined if there was no such list. */
  readonly data: Float32Array | undefined;
}

/**
 * Reads JSON whose `data`, in an object of the list `inputs`, are numbers in lists.
 * @param maxValues the most numbers
 * @throws RequestError 400 if it is no JSON or nested too deep; 413 if it is too long
 */
export async function parseDocument(bytes: Uint8Array, maxValues: number): Promise<Document> {
  const scanner = new Scanner(bytes, maxValues);
  while (!scanner.scan(SLICE)) await pause();
  return scanner.document();
}

const [QUOTE, BACKSLASH, COMMA, COLON] = [0x22, 0x5c, 0x2c, 0x3a];
const [OPEN_LIST, CLOSE_LIST, OPEN_OBJECT, CLOSE_OBJECT] = [0x5b, 0x5d, 0x7b, 0x7d];
const [MINUS, POINT, ZERO, NINE] = [0x2d, 0x2e, 0x30, 0x39];
const TRUE = new TextEncoder().encode('true');
const NUMBER = /^-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?$/;
/** Powers of ten that float64 holds exactly. */
const POWERS = Float64Array.from({ length: 23 }, (_, i) => Number(`1e${i}`));

class Scanner {
  readonly #bytes: Uint8Array;
  readonly #maxValues: number;
  readonly #rest: Uint8Array;
  #restLength = 0;
  #at = 0;
  /** The brackets that are open. */
  readonly #open: number[] = [];
  /** The last key at each depth. */
  readonly #keys: string[] = [];
  /** Where the string starts that is being read, or -1. */
  #string = -1;
  /** The last string, until something follows that shows whether it is a key. */
  #last: { readonly from: number; readonly to: number } | undefined;
  /** True after a key and its colon. */
  #afterKey = false;
  /** How many lists of numbers are open, 0 outside of them. */
  #dataDepth = 0;
  /** In a list of numbers: whether a value must or may follow. */
  #expected: 'value' | 'first' | 'comma' = 'first';
  #values: Float32Array | undefined;
  #count = 0;

  constructor(bytes: Uint8Array, maxValues: number) {
    this.#bytes = bytes;
    this.#maxValues = maxValues;
    this.#rest = new Uint8Array(Math.min(bytes.length + TRUE.length, MAX_REST + TRUE.length));
  }

  /** Goes on for so many bytes; true at the end. */
  scan(slice: number): boolean {
    const end = Math.min(this.#at + slice, this.#bytes.length);
    while (this.#at < end) {
      if (this.#dataDepth > 0) this.#scanData(end);
      else if (this.#string >= 0) this.#scanString(end);
      else this.#scanByte();
    }
    return this.#at === this.#bytes.length;
  }

  document(): Document {
    if (this.#dataDepth > 0) throw invalid('The request is not JSON: it ends within data');
    let value: unknown;
    try {
      value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(this.#rest.subarray(0, this.#restLength)));
    } catch (error) {
      throw invalid(`The request is not JSON: ${quote(messageOf(error))}`);
    }
    return { value, data: this.#values?.slice(0, this.#count) };
  }

  #keep(byte: number): void {
    if (this.#restLength === MAX_REST) {
      throw new RequestError(
        413,
        'BODY_TOO_LARGE',
        `The JSON of a request may have at most ${MAX_REST} bytes besides the numbers of inputs[0].data`,
      );
    }
    this.#rest[this.#restLength++] = byte;
  }

  #scanString(end: number): void {
    while (this.#at < end) {
      const byte = this.#bytes[this.#at++] as number;
      this.#keep(byte);
      if (byte === BACKSLASH && this.#at < this.#bytes.length) this.#keep(this.#bytes[this.#at++] as number);
      else if (byte === QUOTE) {
        this.#last = { from: this.#string, to: this.#restLength };
        this.#string = -1;
        return;
      }
    }
  }

  #scanByte(): void {
    const byte = this.#bytes[this.#at++] as number;
    if (byte === OPEN_LIST && this.#afterKey && this.#isData()) {
      this.#startData();
      return;
    }
    this.#keep(byte);
    if (byte <= 0x20) return;
    switch (byte) {
      case QUOTE:
        this.#string = this.#restLength - 1;
        this.#afterKey = false;
        return;
      case COLON:
        if (this.#last) this.#keys[this.#open.length] = this.#textOf(this.#last);
        this.#afterKey = true;
        return;
      case OPEN_LIST:
      case OPEN_OBJECT:
        this.#open.push(byte);
        if (this.#open.length > MAX_DEPTH) throw invalid(`JSON may be nested ${MAX_DEPTH} deep here at most`);
        break;
      case CLOSE_LIST:
      case CLOSE_OBJECT:
        this.#open.pop();
        break;
      default:
    }
    this.#afterKey = false;
    this.#last = undefined;
  }

  /** A string of the rest; as it is written if it is none, of which JSON.parse tells later. */
  #textOf({ from, to }: { from: number; to: number }): string {
    const text = new TextDecoder().decode(this.#rest.subarray(from, to));
    if (!text.includes('\\')) return text.slice(1, -1);
    try {
      return String(JSON.parse(text));
    } catch {
      return text;
    }
  }

  #isData(): boolean {
    const [a, b, c] = this.#open;
    const isTensor = this.#open.length === 3 && a === OPEN_OBJECT && b === OPEN_LIST && c === OPEN_OBJECT;
    return isTensor && this.#keys[1] === 'inputs' && this.#keys[3] === 'data';
  }

  #startData(): void {
    if (this.#values) throw invalid('inputs must be a list of one tensor with one data');
    for (const byte of TRUE) this.#keep(byte);
    this.#afterKey = false;
    this.#last = undefined;
    this.#dataDepth = 1;
    this.#expected = 'first';
    // A number and its comma take two bytes at least.
    const most = Math.ceil((this.#bytes.length - this.#at) / 2);
    this.#values = new Float32Array(Math.min(most, this.#maxValues));
  }

  #scanData(end: number): void {
    const bytes = this.#bytes;
    while (this.#at < end) {
      const byte = bytes[this.#at] as number;
      if ((byte >= ZERO && byte <= NINE) || byte === MINUS) {
        if (this.#expected === 'comma') throw this.#notJson(byte);
        this.#number();
        this.#expected = 'comma';
      } else if (byte === COMMA) {
        if (this.#expected !== 'comma') throw this.#notJson(byte);
        this.#at++;
        this.#expected = 'value';
      } else if (byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09) {
        this.#at++;
      } else if (byte === OPEN_LIST) {
        if (this.#expected === 'comma') throw this.#notJson(byte);
        if (++this.#dataDepth > MAX_DATA_DEPTH) throw invalid(`data may be lists in lists, ${MAX_DATA_DEPTH} deep`);
        this.#at++;
        this.#expected = 'first';
      } else if (byte === CLOSE_LIST) {
        if (this.#expected === 'value') throw this.#notJson(byte);
        this.#at++;
        this.#expected = 'comma';
        if (--this.#dataDepth === 0) return;
      } else {
        const text = new TextDecoder().decode(bytes.subarray(this.#at, this.#at + 20));
        throw invalid(`data[${this.#count}] must be a number, got ${quote(text)}`);
      }
    }
  }

  #notJson(byte: number): RequestError {
    return invalid(`The request is not JSON: unexpected ${quote(String.fromCharCode(byte))} at data[${this.#count}]`);
  }

  /** Reads one number. One of few digits is an integer by a power of ten: float64 holds both, and rounds once. */
  #number(): void {
    const bytes = this.#bytes;
    const start = this.#at;
    let at = bytes[start] === MINUS ? start + 1 : start;
    const first = at;
    let mantissa = 0;
    let byte = bytes[at] as number;
    for (; byte >= ZERO && byte <= NINE && at - first <= MAX_DIGITS; byte = bytes[++at] as number) {
      mantissa = mantissa * 10 + (byte - ZERO);
    }
    const whole = at - first;
    let fraction = 0;
    if (byte === POINT) {
      byte = bytes[++at] as number;
      for (; byte >= ZERO && byte <= NINE && fraction <= MAX_DIGITS; byte = bytes[++at] as number) {
        mantissa = mantissa * 10 + (byte - ZERO);
        fraction++;
      }
    }
    const isPlain =
      whole + fraction <= MAX_DIGITS &&
      whole > 0 &&
      (whole === 1 || bytes[first] !== ZERO) &&
      (at === first + whole || fraction > 0) &&
      byte !== 0x65 &&
      byte !== 0x45;
    if (isPlain) {
      const value = mantissa / (POWERS[fraction] as number);
      this.#at = at;
      this.#add(bytes[start] === MINUS ? -value : value);
      return;
    }
    this.#at = start;
    this.#longNumber();
  }

  #longNumber(): void {
    const bytes = this.#bytes;
    let text = '';
    for (let at = this.#at; at < bytes.length; at++) {
      const byte = bytes[at] as number;
      const isPart = (byte >= ZERO && byte <= NINE) || '+-.eE'.includes(String.fromCharCode(byte));
      if (!isPart) break;
      if (text.length === MAX_NUMBER_CHARS) {
        throw invalid(`data[${this.#count}] must be a number of at most ${MAX_NUMBER_CHARS} characters`);
      }
      text += String.fromCharCode(byte);
    }
    if (!NUMBER.test(text)) throw invalid(`data[${this.#count}] must be a number, got ${quote(text)}`);
    this.#at += text.length;
    this.#add(Number(text));
  }

  #add(value: number): void {
    const values = this.#values as Float32Array;
    if (this.#count === values.length) {
      throw new RequestError(413, 'INPUT_TOO_LARGE', `data may have at most ${this.#maxValues} numbers`);
    }
    values[this.#count++] = value;
  }
}

function invalid(message: string): RequestError {
  return new RequestError(400, 'INVALID_REQUEST', message);
}
