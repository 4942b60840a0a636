import { describe, expect, test } from 'vitest';
import { Tensor } from '../../src/tensor.js';
import { BACKENDS, FAST_BACKENDS } from '../support/backends.js';
import type { Tolerance } from '../support/close.js';
import { compileGenerated } from '../support/golden.js';
import { expectAsReference, Pair, program } from '../support/kernel.js';
import { BATCH_STATISTICS, BATCHES, input, SIDES, withNegativeInfinities, withSpecials } from '../support/operation.js';

/* Batch norm on every backend, in both modes. */

/** A multiply and an add, whose factor of up to 1.5 / √0.5 may have been rounded before. */
const AFFINE: Tolerance = { atol: 2e-6, rtol: 1e-6 };

describe.each([...BACKENDS])('batchNorm2d on $name, by hand', ({ create }) => {
  test('batchNorm2d in train mode: mean 2, variance 1, statistics a tenth of the way', async () => {
    const layers = program({ op: 'batchNorm2d', channels: 1 });
    async function* parameters() {
      for (const [key, value] of Object.entries({ weight: 2, bias: 1, running_mean: 0, running_var: 1 })) {
        yield { name: `batchNorm2d0.${key}`, offset: 0, data: Float32Array.of(value) };
      }
    }
    const executable = await (await create()).compile({ layers }, parameters());
    const x = new Tensor(Float32Array.of(1, 3, 1, 3), [2, 1, 1, 2]);
    const [y] = await executable.run(x, { outputs: ['batchNorm2d0'], mode: 'train', seed: 0 });
    for (const [i, expected] of [-1, 3, -1, 3].entries()) expect(y?.data[i]).toBeCloseTo(expected, 4);
    expect((await executable.readParameter('batchNorm2d0.running_mean'))[0]).toBeCloseTo(0.2, 6);
    // 0.9 · 1 + 0.1 · 4/3, the unbiased variance.
    expect((await executable.readParameter('batchNorm2d0.running_var'))[0]).toBeCloseTo(1.0333333, 6);
    executable.dispose();
  });

  test('batchNorm2d in train mode refuses one value a channel, as PyTorch does', async () => {
    const layers = program({ op: 'batchNorm2d', channels: 3 });
    const executable = await compileGenerated(await create(), layers);
    const run = (mode: 'eval' | 'train') =>
      executable.run(input([1, 3, 1, 1]), { outputs: ['batchNorm2d0'], mode, seed: 0 });
    await expect(run('train')).rejects.toMatchObject({
      code: 'INVALID_SHAPE',
      message: expect.stringContaining('more than 1 value per channel'),
    });
    await expect(run('eval')).resolves.toHaveLength(1);
    executable.dispose();
  });
});

describe.each([...FAST_BACKENDS])('batchNorm2d on $name, against the reference', ({ create }) => {
  describe.each([...SIDES])('height %i', (H) => {
    test.each([...SIDES])('width %i, eval and train', async (W) => {
      const backend = await create();
      for (const [N, channels] of BATCHES) {
        const x = input([N, channels, H, W]);
        const layers = program({ op: 'batchNorm2d', channels });
        using pair = await Pair.compile(backend, layers);
        for (const values of [x, withSpecials(x), withNegativeInfinities(x)]) await pair.expectSame(values, AFFINE);
        if (N * H * W < 18) continue;
        // Each from the same running statistics.
        const train = { ...BATCH_STATISTICS, mode: 'train' } as const;
        await pair.expectSame(x, train);
        await expectAsReference(backend, layers, withSpecials(x), train);
      }
    });
  });
});
