import { describe, test } from 'vitest';
import { FAST_BACKENDS } from '../support/backends.js';
import { Pair, program } from '../support/kernel.js';
import { CHAIN, input, withSpecials } from '../support/operation.js';

/* All operations in one program, whose outputs are requested in many combinations. */

describe.each([...FAST_BACKENDS])('a chain of all operations on $name, against the reference', ({ create }) => {
  test.each([1, 2, 3])('a deep network, batch %i, tapped in many ways', async (N) => {
    const layers = program(
      { op: 'conv2d', inChannels: 3, outChannels: 7 },
      { op: 'relu' },
      { op: 'conv2d', inChannels: 7, outChannels: 16 },
      { op: 'batchNorm2d', channels: 16 },
      { op: 'relu' },
      { op: 'maxPool2d' },
      { op: 'conv2d', inChannels: 16, outChannels: 9 },
      { op: 'maxPool2d' },
      { op: 'adaptiveAvgPool2d', outputSize: 3 },
      { op: 'flatten' },
      { op: 'linear', inFeatures: 81, outFeatures: 31 },
      { op: 'dropout', p: 0.5 },
      { op: 'linear', inFeatures: 31, outFeatures: 7 },
      { op: 'softmax' },
    );
    const names = layers.map(({ name }) => name);
    const x = input([N, 3, 15, 22]);
    using pair = await Pair.compile(await create(), layers);
    // Training changes the running statistics, of both.
    for (const mode of ['eval', 'train'] as const) {
      await pair.expectSame(x, { ...CHAIN, mode });
      await pair.expectSame(x, { ...CHAIN, mode, outputs: names });
      // Every second layer must outlive the memory that its neighbours share.
      await pair.expectSame(x, { ...CHAIN, mode, outputs: names.filter((_, i) => i % 2 === 0) });
      await pair.expectSame(x, { ...CHAIN, mode, outputs: ['maxPool2d5', 'relu1'] });
    }
    await pair.expectSame(withSpecials(x), { ...CHAIN, outputs: names });
  });
});
