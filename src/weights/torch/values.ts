import { quoteName } from '../safetensors/header.js';

/* What a pickle can make. */

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

/**
 * A class or function that is not known, and whatever the pickle makes of it. Nothing is called, and nothing is kept
 * of it but its name: only tensors are wanted, and one that depends on it is an opaque too.
 */
export class PickleOpaque {
  readonly name: string;
  /** For a tensor: what it depends on. */
  readonly tensorOf: string | undefined;
  constructor(name: string, tensorOf?: string) {
    this.name = name;
    this.tensorOf = tensorOf;
  }
}

/** Counts values that are made, and throws when there are too many. */
export type Spend = (values: number) => void;

/** What a pickle names by module and name. */
export interface PickleGlobal {
  readonly name: string;
  /**
   * What it makes when the pickle calls it; undefined if the arguments are not right. It counts what it makes. Left
   * out if it is not called.
   */
  readonly call?: (args: readonly PickleValue[], spend: Spend) => PickleValue | undefined;
  /** Whether it makes tensors. */
  readonly makesTensor?: boolean;
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
  | PickleOpaque
  | PickleGlobal
  | PickleObject;

export interface PickleContext {
  /** What a name stands for; undefined if it is not known. */
  findGlobal(name: string): PickleGlobal | undefined;
  /** What an id from outside the pickle stands for: PyTorch's storages. Undefined if it is not right. */
  load(id: PickleValue): PickleValue | undefined;
}

/** Thrown by a global's `call` to say what is wrong. */
export class PickleCallError extends Error {}

export function isGlobal(value: PickleValue | undefined): value is PickleGlobal {
  return typeof value === 'object' && value !== null && 'name' in value && !(value instanceof PickleOpaque);
}

export function isObject(value: PickleValue): value is PickleObject {
  return typeof value === 'object' && value !== null && 'setState' in value;
}

/** What a value is, for a message. */
export function kindOfPickle(value: PickleValue): string {
  if (value === null) return 'None';
  if (value instanceof PickleDict) return 'a dict';
  if (value instanceof PickleList) return 'a list';
  if (value instanceof PickleTuple) return 'a tuple';
  if (value instanceof PickleOpaque) return quoteName(value.name);
  if (typeof value === 'object') return isGlobal(value) ? quoteName(value.name) : 'a tensor';
  return `a ${typeof value}`;
}
