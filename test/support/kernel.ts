import { expect } from 'vitest';
import type { Backend, Executable, RunOptions } from '../../src/backend.js';
import type { Layer } from '../../src/program/layers.js';
import { createReferenceBackend } from '../../src/reference/backend.js';
import type { Tensor } from '../../src/tensor.js';
import { expectClose, type Tolerance } from './close.js';
import { compileGenerated } from './golden.js';

/*
 * A kernel test is a program of one or a few layers, run on a backend and on the reference. Layers are named
 * by their operation and place, such as `conv2d0`, which are their paths too.
 */

/** Layers without their names, as in a test's own list, and without what batch norm has in every network. */
export type Unnamed<L = Layer> = L extends Layer ? Omit<L, 'name' | 'path' | 'eps' | 'momentum'> : never;

/** PyTorch's defaults. */
export const BATCH_NORM = { eps: 1e-5, momentum: 0.1 };

export function program(...layers: Unnamed[]): Layer[] {
  return layers.map((layer, index) => {
    const name = `${layer.op}${index}`;
    return { ...(layer.op === 'batchNorm2d' && BATCH_NORM), ...layer, name, path: name } as Layer;
  });
}

export interface Comparison extends Tolerance {
  readonly mode?: 'eval' | 'train';
  readonly seed?: number;
  /** Names of layers; default the last one alone, which leaves a backend free to fuse the whole chain. */
  readonly outputs?: readonly string[];
}

/** Runs the layers on both, and compares the outputs, and in train mode the running statistics as well. */
export async function expectAsReference(
  backend: Backend,
  layers: readonly Layer[],
  input: Tensor,
  comparison: Comparison,
): Promise<void> {
  using pair = await Pair.compile(backend, layers);
  await pair.expectSame(input, comparison);
}

/** A program compiled by a backend and by the reference, for as many inputs as a test has. */
export class Pair implements Disposable {
  readonly #what: string;
  readonly #layers: readonly Layer[];
  readonly #actual: Executable;
  readonly #expected: Executable;

  private constructor(what: string, layers: readonly Layer[], actual: Executable, expected: Executable) {
    this.#what = what;
    this.#layers = layers;
    this.#actual = actual;
    this.#expected = expected;
  }

  static async compile(backend: Backend, layers: readonly Layer[]): Promise<Pair> {
    const actual = await compileGenerated(backend, layers);
    return new Pair(backend.device.backend, layers, actual, await compileGenerated(createReferenceBackend(), layers));
  }

  async expectSame(
    input: Tensor,
    { atol, rtol, mode = 'eval', seed = 0, outputs = [(this.#layers.at(-1) as Layer).name] }: Comparison,
  ): Promise<void> {
    const options: RunOptions = { outputs, mode, seed };
    const actual = await this.#actual.run(input, options);
    const expected = await this.#expected.run(input, options);
    const on = (name: string): string => `${name} on ${this.#what}, input [${input.shape.join(', ')}], ${mode}`;
    for (const [i, name] of outputs.entries()) {
      const what = `${on(name)}, outputs ${outputs.join(' ')}`;
      const { data, shape } = expected[i] as Tensor;
      expect(actual[i]?.shape, what).toEqual(shape);
      expectClose((actual[i] as Tensor).data, data, { atol, rtol, what, shape });
    }
    for (const { op, path } of this.#layers) {
      if (op !== 'batchNorm2d') continue;
      for (const name of [`${path}.running_mean`, `${path}.running_var`]) {
        const values = await this.#actual.readParameter(name);
        // A mean of values below 2 and of a variance near 1, rounded once or twice on the way.
        const tolerance: Tolerance = { atol: 1e-6, rtol: 1e-5 };
        expectClose(values, await this.#expected.readParameter(name), { ...tolerance, what: on(name) });
      }
    }
  }

  [Symbol.dispose](): void {
    this.#actual.dispose();
    this.#expected.dispose();
  }
}
