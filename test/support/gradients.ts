import { expect } from 'vitest';
import type { Autograd, Backend, Executable, RunOptions } from '../../src/backend.js';
import type { ReluRule } from '../../src/program/gradient.js';
import { type Layer, parametersOf } from '../../src/program/layers.js';
import type { Tensor } from '../../src/tensor.js';
import { generatedTensor } from './generated.js';
import { compileGenerated, type GoldenNetwork, inputOf, layersOf, positions } from './golden.js';

/* The cases that test/golden/make-gradients.py makes, and how gradients are held against them. */

interface ExpectedGradient {
  /** At the indices of `positions`. */
  readonly values: readonly number[];
  readonly norm: number;
}

export interface GradientCase extends GoldenNetwork {
  readonly name: string;
  readonly mode: 'eval' | 'train';
  readonly frozen?: true;
  readonly guided?: true;
  readonly cotangents: readonly string[];
  readonly wrt: Readonly<Record<string, ExpectedGradient>>;
  readonly parameters: Readonly<Record<string, ExpectedGradient>>;
}

/** The learned parameters of a network. */
export function learnedOf(layers: readonly Layer[]): Set<string> {
  return new Set(layers.flatMap(parametersOf).flatMap(({ name, learned }) => (learned ? [name] : [])));
}

export function autogradOf(executable: Executable): Autograd {
  if (!executable.autograd) throw new Error('The executable has no backward pass');
  return executable.autograd;
}

/** The cotangent that the golden files take for a layer. */
export function cotangentOf(name: string, output: Tensor): Tensor {
  return generatedTensor(`cotangent ${name}`, output.shape, 'input');
}

/** ‖actual − expected‖ / ‖expected‖ */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let error = 0;
  let norm = 0;
  for (let i = 0; i < expected.length; i++) {
    error += ((actual[i] as number) - (expected[i] as number)) ** 2;
    norm += (expected[i] as number) ** 2;
  }
  return norm === 0 ? Math.sqrt(error) : Math.sqrt(error / norm);
}

/** Runs a case on a backend, and compares the gradients of what it names and of all parameters, to `tolerance`. */
export async function expectGradients(backend: Backend, golden: GradientCase, tolerance: number): Promise<void> {
  const layers = layersOf(golden).map((layer): Layer => {
    return layer.op === 'batchNorm2d' && golden.frozen ? { ...layer, frozen: true } : layer;
  });
  const executable = await compileGenerated(backend, layers, { gradients: learnedOf(layers) });
  try {
    const autograd = autogradOf(executable);
    const run: RunOptions = { outputs: golden.cotangents, mode: golden.mode, seed: 0 };
    const tape = await autograd.record(inputOf(golden), run);
    const cotangents = new Map(
      golden.cotangents.map((name, i) => [name, cotangentOf(name, tape.outputs[i] as Tensor)] as const),
    );
    const reluRule: ReluRule = golden.guided ? 'guided' : 'standard';
    const wrt = Object.keys(golden.wrt);
    const results = await tape.backward({ cotangents, wrt, reluRule });
    for (const [i, name] of wrt.entries()) {
      expectGradient((results[i] as Tensor).data, golden.wrt[name] as ExpectedGradient, tolerance, `d${name}`);
    }
    const largest = Math.max(...Object.values(golden.parameters).map(({ norm }) => norm));
    for (const [name, expected] of Object.entries(golden.parameters)) {
      // The bias of a convolution before batch norm has a gradient of rounding noise.
      if (expected.norm > 0 && expected.norm < largest * 1e-9) continue;
      expectGradient(await autograd.readGradient(name), expected, tolerance, `d${name}`);
    }
  } finally {
    executable.dispose();
  }
}

function expectGradient(
  actual: Float32Array,
  { values, norm }: ExpectedGradient,
  tolerance: number,
  what: string,
): void {
  const scale = norm / Math.sqrt(actual.length);
  const at = positions(actual.length, values.length);
  for (const [i, index] of at.entries()) {
    const off = Math.abs((actual[index] as number) - (values[i] as number));
    expect(off, `${what}[${index}]: ${actual[index]}, expected ${values[i]}`).toBeLessThanOrEqual(
      tolerance * (scale + Math.abs(values[i] as number)),
    );
  }
  const length = Math.sqrt(Float64Array.from(actual).reduce((sum, value) => sum + value * value, 0));
  expect(Math.abs(length - norm), `norm of ${what}: ${length}, expected ${norm}`).toBeLessThanOrEqual(tolerance * norm);
}
