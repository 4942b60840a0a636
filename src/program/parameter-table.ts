import { VGGNetError } from '../errors.js';
import { numel } from '../tensor.js';
import type { ParameterSpec } from './layers.js';

/** Consecutive values of a parameter, from index `offset` on. */
export interface Chunk {
  readonly name: string;
  readonly offset: number;
  readonly data: { readonly length: number };
}

/** A parameter of a backend that packs values as they arrive. */
export interface Arriving {
  readonly spec: ParameterSpec;
  /** How many of its values have come. */
  written: number;
}

/** The parameters of a program by name, each of which is to come once, in order and whole. */
export class ParameterTable<P extends Arriving> {
  readonly #byName = new Map<string, P>();

  add(parameter: P): void {
    this.#byName.set(parameter.spec.name, parameter);
  }

  /** @throws VGGNetError `WEIGHTS_MISMATCH` */
  find(name: string): P {
    const parameter = this.#byName.get(name);
    if (!parameter) throw new VGGNetError('WEIGHTS_MISMATCH', `This program has no parameter '${name}'`);
    return parameter;
  }

  /**
   * Counts the values of a chunk as come.
   * @throws VGGNetError `WEIGHTS_MISMATCH` if they are not the next ones
   */
  take({ name, offset, data }: Chunk): P {
    const parameter = this.find(name);
    const size = numel(parameter.spec.shape);
    if (offset !== parameter.written || offset + data.length > size) {
      throw new VGGNetError(
        'WEIGHTS_MISMATCH',
        `${name}: expected value ${parameter.written} of ${size} next, got ${data.length} values from ${offset}`,
      );
    }
    parameter.written += data.length;
    return parameter;
  }

  /** @throws VGGNetError `WEIGHTS_MISMATCH` if a value has not come */
  checkComplete(): void {
    for (const { spec, written } of this.#byName.values()) {
      const size = numel(spec.shape);
      if (written !== size) {
        throw new VGGNetError('WEIGHTS_MISMATCH', `${spec.name}: expected ${size} values, got ${written}`);
      }
    }
  }
}
