import { describe, expect, test } from 'vitest';
import { MODEL_NAMES } from '../../src/vgg.js';
import type { BackendUnderTest } from './backends.js';
import {
  compileGenerated,
  expectCase,
  expectSpecialCase,
  type GoldenCase,
  layersOf,
  readGolden,
  type SpecialCase,
} from './golden.js';

/** Heights of the inputs that every network runs where that is slow: Deno's driver is the slowest. */
const SIDES = 'Deno' in globalThis ? [96] : [96, 224];

/** What PyTorch gave for whole networks, and small ones of all kinds, on each of the backends. */
export function testNetworks(backends: readonly BackendUnderTest[]): void {
  describe.each([...backends])('networks on $name', ({ name: backendName, create, slow, tolerance }) => {
    // One test a network, so that only one network's weights are in memory at a time.
    test.each([...MODEL_NAMES])('%s gives PyTorch’s logits and layers', { timeout: 180_000 }, async (model) => {
      const cases = readGolden<GoldenCase>(model);
      expect(cases.map(({ shape }) => shape.slice(2).join('×'))).toEqual(
        expect.arrayContaining(['224×224', '96×128', '150×200']),
      );
      const executable = await compileGenerated(await create(), layersOf(cases[0] as GoldenCase));
      try {
        for (const golden of cases) {
          // Of two networks there is all of it, every layer that is stored included.
          if (slow && model !== 'vgg11' && model !== 'vgg16_bn' && !SIDES.includes(golden.shape[2] as number)) continue;
          for (const batch of slow ? [1] : new Set([1, golden.shape[0] as number])) {
            const what = `of ${model}${golden.by ? ' as the lesson builds it' : ''} on ${backendName}, batch ${batch}`;
            await expectCase(executable, golden, what, batch, tolerance);
          }
        }
      } finally {
        executable.dispose();
      }
    });

    test.each(readGolden<GoldenCase>('small'))('the list network $name, mode $mode', async (golden) => {
      const executable = await compileGenerated(await create(), layersOf(golden));
      await expectCase(executable, golden, `of ${golden.name} on ${backendName}`, undefined, tolerance);
      executable.dispose();
    });

    test.each(readGolden<SpecialCase>('special'))('$name, batch norm $options.batchNorm', async (golden) => {
      const executable = await compileGenerated(await create(), layersOf(golden));
      await expectSpecialCase(executable, golden, `with ${golden.name} on ${backendName}`, tolerance);
      executable.dispose();
    });
  });
}
