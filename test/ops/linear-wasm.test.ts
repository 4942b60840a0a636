import { Tensor, VGGNet } from 'vggnet';
import { describe, expect, test } from 'vitest';
import type { Executable } from '../../src/backend.js';
import { createWasmBackend } from '../../src/wasm/backend.js';
import { generatedTensor } from '../support/generated.js';
import { compileGenerated } from '../support/golden.js';
import { expectAsReference, program, type Unnamed } from '../support/kernel.js';

/*
 * A single input goes through twelve rows of weights at a time, then four, then one; a batch through four and one. Sums
 * are made in blocks of 2,048 columns, cache lines of 16, vectors of four, and single values.
 */

const linear = (inFeatures: number, outFeatures: number): Unnamed => ({ op: 'linear', inFeatures, outFeatures });

/** (inputs, outputs): each remainder of rows and columns, and more than one block. */
const SIZES = [
  [15, 12],
  [16, 13],
  [64, 24],
  [83, 28],
  [2047, 11],
  [2048, 29],
  [2053, 36],
  [4122, 41],
  [6150, 52],
] as const;

/** √K · 2^-24 of partial sums below 10, K up to 6,150, as in test/support/operation.ts. */
const TOLERANCE = { atol: 1e-5, rtol: 1e-5 };

describe.each([true, false])('linear on wasm, deterministic: %s', (deterministic) => {
  const backend = createWasmBackend({ deterministic, inline: true, reason: 'a test' });

  test.each(SIZES)('%i inputs, %i outputs', async (inFeatures, outFeatures) => {
    for (const N of [1, 2]) {
      const x = generatedTensor('x', [N, inFeatures], 'input');
      await expectAsReference(backend, program(linear(inFeatures, outFeatures)), x, TOLERANCE);
      await expectAsReference(backend, program(linear(inFeatures, outFeatures), { op: 'relu' }), x, TOLERANCE);
      x.data[inFeatures >> 1] = Number.NaN;
      await expectAsReference(backend, program(linear(inFeatures, outFeatures), { op: 'relu' }), x, TOLERANCE);
    }
  });

  test.each(SIZES)('%i inputs, %i outputs: the same bits alone as in a batch', async (inFeatures, outFeatures) => {
    const executable = await compileGenerated(backend, program(linear(inFeatures, outFeatures)));
    const x = generatedTensor('x', [5, inFeatures], 'input');
    const batch = await runLinear(executable, x);
    for (let n = 0; n < 5; n++) {
      const one = generatedTensor('x', [1, inFeatures], 'input');
      one.data.set(x.data.subarray(n * inFeatures, (n + 1) * inFeatures));
      const alone = await runLinear(executable, one);
      expect(batch.data.subarray(n * outFeatures, (n + 1) * outFeatures)).toEqual(alone.data);
    }
    executable.dispose();
  });

  test('and on any number of threads', async () => {
    const x = Tensor.randn([1, 3, 4, 4], { seed: 3 });
    const results: Float32Array[] = [];
    for (const threads of [1, 2, 3, 5, 16]) {
      const options = { numClasses: 53, hiddenFeatures: 100, poolSize: 7, threads, deterministic, seed: 2 } as const;
      using model = await VGGNet.create([48, 'M'], { ...options, device: 'wasm' });
      results.push((await model.forward(x)).data);
    }
    for (const result of results) expect(result).toEqual(results[0]);
  });
});

async function runLinear(executable: Executable, x: Tensor): Promise<Tensor> {
  const [output] = await executable.run(x, { outputs: ['linear0'], mode: 'eval', seed: 0 });
  return output as Tensor;
}
