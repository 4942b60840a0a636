import { describe, test } from 'vitest';
import { FAST_BACKENDS } from '../support/backends.js';
import { Pair, program } from '../support/kernel.js';
import { input, SUM, withSpecials } from '../support/operation.js';

/* Linear layers on every backend, alone and with the layers of a classifier. */

const LINEAR_SIZES = [1, 3, 7, 31, 64, 100, 1000];

describe.each([...FAST_BACKENDS])('linear on $name, against the reference', ({ create }) => {
  describe.each([...LINEAR_SIZES])('%i input features', (inFeatures) => {
    test.each([...LINEAR_SIZES])(
      '%i output features: linear alone, with relu, dropout, softmax',
      async (outFeatures) => {
        const backend = await create();
        const linear = { op: 'linear', inFeatures, outFeatures } as const;
        const inputs = [1, 2, 3, 9].map((N) => input([N, inFeatures]));
        {
          using pair = await Pair.compile(backend, program(linear));
          for (const x of inputs) await pair.expectSame(x, SUM);
        }
        {
          using pair = await Pair.compile(backend, program(linear, { op: 'relu' }));
          for (const x of inputs) await pair.expectSame(withSpecials(x), SUM);
        }
        const layers = program(linear, { op: 'relu' }, { op: 'dropout', p: 0.5 }, { op: 'softmax' });
        using pair = await Pair.compile(backend, layers);
        const outputs = ['dropout2', 'linear0', 'relu1'];
        for (const [seed, x] of inputs.entries()) {
          await pair.expectSame(x, { ...SUM, outputs });
          await pair.expectSame(x, { ...SUM, outputs, mode: 'train', seed });
          await pair.expectSame(x, { atol: 1e-6, rtol: 1e-4 });
        }
      },
    );
  });
});
