import type { OnnxNode } from './model.js';

/** A node's attributes, held against what they must be. A default is ONNX's, for an attribute that is left out. */
export class Attributes {
  readonly #node: OnnxNode;
  readonly #fail: (what: string) => never;

  constructor(node: OnnxNode, fail: (what: string) => never) {
    this.#node = node;
    this.#fail = fail;
  }

  integer(name: string, fallback: number): number {
    return this.#node.attributes.get(name)?.integer ?? fallback;
  }

  integers(name: string, fallback: readonly number[]): readonly number[] {
    return this.#node.attributes.get(name)?.integers ?? fallback;
  }

  expectInteger(name: string, expected: number, fallback: number): void {
    const got = this.integer(name, fallback);
    if (got !== expected) this.#fail(`expected ${name} ${expected}, got ${got}`);
  }

  expectIntegers(name: string, expected: readonly number[], fallback: readonly number[]): void {
    const got = this.integers(name, fallback);
    if (got.join() !== expected.join())
      this.#fail(`expected ${name} [${expected.join(', ')}], got [${got.join(', ')}]`);
  }

  /** To within float32. */
  expectFloat(name: string, expected: number, fallback: number): void {
    const got = this.#node.attributes.get(name)?.float ?? fallback;
    if (Math.fround(got) !== Math.fround(expected)) this.#fail(`expected ${name} ${expected}, got ${got}`);
  }

  /** Whether a border is added so that the size stays, which for 3×3 and stride 1 is one pixel on each side. */
  isSamePadding(): boolean {
    const text = this.#node.attributes.get('auto_pad')?.text ?? 'NOTSET';
    if (text === 'SAME_UPPER' || text === 'SAME_LOWER') return true;
    if (text !== 'NOTSET') this.#fail(`expected pads [1, 1, 1, 1], got auto_pad ${text}`);
    return false;
  }
}
