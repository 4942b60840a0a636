import { describe, test } from 'vitest';
import { FAST_BACKENDS } from '../support/backends.js';
import { expectAsReference, Pair, program } from '../support/kernel.js';
import { BATCH_STATISTICS, CHAIN, input, SUM, withSpecials } from '../support/operation.js';

/* Convolution on every backend, alone and with the layers that are fused into it. */

/** (N, C, OC, H, W): every size of interest in each place at least once. */
const CONV_SHAPES: readonly [number, number, number, number, number][] = [
  [1, 1, 1, 1, 1],
  [1, 3, 64, 15, 14],
  [2, 3, 8, 7, 5],
  [3, 5, 7, 3, 2],
  [1, 7, 5, 1, 15],
  [1, 8, 8, 14, 14],
  [2, 8, 9, 15, 1],
  [1, 9, 16, 5, 7],
  [1, 16, 17, 2, 3],
  [3, 17, 1, 7, 7],
  [2, 17, 9, 2, 2],
  [1, 64, 64, 14, 15],
  [2, 64, 3, 3, 5],
  [1, 1, 17, 15, 15],
  [3, 16, 16, 1, 2],
  [1, 3, 24, 33, 31],
];

describe.each([...FAST_BACKENDS])('conv2d on $name, against the reference', ({ create }) => {
  describe.each([...CONV_SHAPES])('input (%i, %i → %i, %i, %i)', (N, C, OC, H, W) => {
    const conv = { op: 'conv2d', inChannels: C, outChannels: OC } as const;
    const x = input([N, C, H, W]);

    test('conv2d, also with NaN and infinities', async () => {
      using pair = await Pair.compile(await create(), program(conv));
      await pair.expectSame(x, SUM);
      await pair.expectSame(withSpecials(x), SUM);
    });

    test('conv2d and relu, fused and tapped between', async () => {
      using pair = await Pair.compile(await create(), program(conv, { op: 'relu' }));
      await pair.expectSame(x, SUM);
      await pair.expectSame(withSpecials(x), SUM);
      await pair.expectSame(x, { ...SUM, outputs: ['relu1', 'conv2d0'] });
    });

    test('conv2d, batchNorm2d, relu and maxPool2d, tapped anywhere', async () => {
      const chain = [conv, { op: 'batchNorm2d', channels: OC }, { op: 'relu' }] as const;
      const layers = H > 1 && W > 1 ? program(...chain, { op: 'maxPool2d' }) : program(...chain);
      const names = layers.map(({ name }) => name);
      using pair = await Pair.compile(await create(), layers);
      for (const name of names) await pair.expectSame(x, { ...CHAIN, outputs: [name] });
      await pair.expectSame(x, { ...CHAIN, outputs: names });
      await pair.expectSame(x, { ...CHAIN, outputs: [...names.toReversed(), 'conv2d0'] });
      await pair.expectSame(withSpecials(x), CHAIN);
    });
  });

  test.each(CONV_SHAPES.filter(([N, , , H, W]) => N * H * W >= 18))(
    'conv2d, batchNorm2d, relu and maxPool2d in train mode, (%i, %i → %i, %i, %i)',
    async (N, C, OC, H, W) => {
      const chain = [
        { op: 'conv2d', inChannels: C, outChannels: OC },
        { op: 'batchNorm2d', channels: OC },
        { op: 'relu' },
      ] as const;
      const layers = H > 1 && W > 1 ? program(...chain, { op: 'maxPool2d' }) : program(...chain);
      const options = { ...BATCH_STATISTICS, mode: 'train' } as const;
      await expectAsReference(await create(), layers, input([N, C, H, W]), options);
      const outputs = layers.map(({ name }) => name);
      await expectAsReference(await create(), layers, input([N, C, H, W]), { ...options, outputs });
    },
  );
});
