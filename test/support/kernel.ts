import { expect } from 'vitest';
import type { Backend, RunOptions } from '../../src/backend.js';
import type { Layer } from '../../src/layers.js';
import { createReferenceBackend } from '../../src/reference/backend.js';
import type { Tensor } from '../../src/tensor.js';
import { expectClose, type Tolerance } from './close.js';
import { compileGenerated } from './golden.js';

/*
 * A kernel test is a program of one or a few layers, run on a backend and on the reference. Layers are named
 * by their operation and place, such as `conv2d0`, which are their paths too.
 */

/** Layers without their names, as in a test's own list. */
export type Unnamed<L = Layer> = L extends Layer ? Omit<L, 'name' | 'path'> : never;

export function program(...layers: Unnamed[]): Layer[] {
  return layers.map((layer, index) => {
    const name = `${layer.op}${index}`;
    return { ...layer, name, path: name } as Layer;
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
  { atol, rtol, mode = 'eval', seed = 0, outputs = [(layers.at(-1) as Layer).name] }: Comparison,
): Promise<void> {
  const options: RunOptions = { outputs, mode, seed };
  const actual = await runOnce(backend, layers, input, options);
  const expected = await runOnce(createReferenceBackend(), layers, input, options);
  for (const [i, name] of outputs.entries()) {
    const what = `${name} on ${backend.device.backend}, input [${input.shape.join(', ')}], ${mode}, outputs ${outputs.join(' ')}`;
    const { data, shape } = expected.outputs[i] as Tensor;
    expect(actual.outputs[i]?.shape, what).toEqual(shape);
    expectClose((actual.outputs[i] as Tensor).data, data, { atol, rtol, what, shape });
  }
  for (const [name, values] of expected.running) {
    // A mean of values below 2 and of a variance near 1, rounded once or twice on the way.
    const tolerance: Tolerance = { atol: 1e-6, rtol: 1e-5 };
    const what = `${name} on ${backend.device.backend}, input [${input.shape.join(', ')}], ${mode}`;
    expectClose(actual.running.get(name) as Float32Array, values, { ...tolerance, what });
  }
}

interface Ran {
  readonly outputs: readonly Tensor[];
  readonly running: ReadonlyMap<string, Float32Array>;
}

async function runOnce(backend: Backend, layers: readonly Layer[], input: Tensor, options: RunOptions): Promise<Ran> {
  const executable = await compileGenerated(backend, layers);
  try {
    const outputs = await executable.run(input, options);
    const running = new Map<string, Float32Array>();
    for (const { op, path } of layers) {
      if (op !== 'batchNorm2d') continue;
      for (const key of ['running_mean', 'running_var']) {
        running.set(`${path}.${key}`, await executable.readParameter(`${path}.${key}`));
      }
    }
    return { outputs, running };
  } finally {
    executable.dispose();
  }
}
