import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { resolveConfig } from '../../src/model/config.js';
import type { Architecture, VGGConfig } from '../../src/vgg.js';
import { type InitScheme, initSource } from '../../src/weights/init.js';
import { stopwatch } from '../support/stopwatch.js';
import { collect, readAll } from './collect.js';

interface Sample {
  size: number;
  first: number[];
  last?: number[];
  sum?: number;
}
interface Network {
  init: InitScheme;
  seed: number;
  architecture: Architecture;
  batchNorm: boolean;
  inChannels: number;
  hiddenFeatures: number;
  numClasses: number;
  poolSize: number;
  parameters: Record<string, Sample>;
}
const golden = JSON.parse(readFileSync(new URL('../golden/random.json', import.meta.url), 'utf8')) as {
  networks: Network[];
};

const small = (): VGGConfig =>
  resolveConfig([8, 'M', 16, 'M'], { hiddenFeatures: 20, numClasses: 7, poolSize: 2, batchNorm: true });

describe('initSource', () => {
  test.each(golden.networks)("makes PyTorch's $architecture, $init, batch norm $batchNorm", async (network) => {
    const { architecture, init, seed, parameters, ...options } = network;
    const source = initSource(resolveConfig(architecture, options), { init, seed });
    const values = await readAll(source);
    expect([...values.keys()].sort()).toEqual(Object.keys(parameters).sort());
    expect([...values.keys()]).toEqual(source.entries.map((entry) => entry.name));
    for (const [name, want] of Object.entries(parameters)) {
      const got = values.get(name) as Float32Array;
      expect(got.length).toBe(want.size);
      const tail = want.last ? got.subarray(-want.last.length) : got.subarray(0, 0);
      // As in random.test.ts: 1e-6 of the deviation, which is 0.2 to 1 for these sizes of layers.
      for (const [i, value] of want.first.entries()) expect(got[i], `${name} ${i}`).toBeCloseTo(value, 6);
      for (const [i, value] of (want.last ?? []).entries()) expect(tail[i], `${name} -${i}`).toBeCloseTo(value, 6);
      if (want.sum !== undefined) expect(got.reduce((a, b) => a + b, 0)).toBeCloseTo(want.sum, 4);
    }
  });

  test('`only` gives the same numbers, and nothing else', async () => {
    for (const init of ['pytorch', 'torchvision'] as const) {
      const all = await readAll(initSource(small(), { init, seed: 11 }));
      for (const name of all.keys()) {
        const source = initSource(small(), { init, seed: 11, only: new Set([name]) });
        expect(source.entries.map((entry) => entry.name)).toEqual([name]);
        const some = await readAll(source);
        expect([...some.keys()]).toEqual([name]);
        expect(some.get(name)).toEqual(all.get(name));
      }
    }
  });

  test('what is not wanted is passed over', async () => {
    const all = await readAll(initSource(small(), { init: 'torchvision', seed: 11 }));
    const wanted = new Set(['features.4.weight', 'classifier.6.weight']);
    const some = await collect(initSource(small(), { init: 'torchvision', seed: 11 }).chunks(wanted));
    expect([...some.keys()]).toEqual([...wanted]);
    for (const name of wanted) expect(some.get(name)).toEqual(all.get(name));
    const source = initSource(small(), { init: 'pytorch', seed: 0, only: wanted });
    await expect(collect(source.chunks(new Set(['features.0.weight'])))).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  test('seeds differ, and chunks are of at most 1 MiB', async () => {
    const config = resolveConfig([4], { hiddenFeatures: 1100, numClasses: 2, poolSize: 1 });
    const a = await readAll(initSource(config, { init: 'torchvision', seed: 1 }));
    const b = await readAll(initSource(config, { init: 'torchvision', seed: 2 }));
    expect(a.get('classifier.3.weight')).not.toEqual(b.get('classifier.3.weight'));
    const lengths: number[] = [];
    for await (const { name, data } of initSource(config, { init: 'torchvision', seed: 1 }).chunks(
      new Set(['classifier.3.weight']),
    )) {
      expect(name).toBe('classifier.3.weight');
      lengths.push(data.length);
    }
    expect(lengths).toEqual([2 ** 18, 2 ** 18, 2 ** 18, 2 ** 18, 1100 ** 2 - 2 ** 20]);
  });

  test('a signal from a timer stops it', async () => {
    const source = initSource(resolveConfig('vgg16'), { init: 'torchvision', seed: 0 });
    const names = new Set(source.entries.map((entry) => entry.name));
    const elapsed = stopwatch();
    await expect(collect(source.chunks(names, AbortSignal.timeout(50)))).rejects.toMatchObject({ code: 'ABORTED' });
    expect(elapsed()).toBeLessThan(1000);
  });

  test('refuses bad options', () => {
    const code = (options: object): unknown => {
      try {
        initSource(small(), { init: 'pytorch', seed: 0, ...options });
        return 'nothing';
      } catch (error) {
        return (error as { code: string }).code;
      }
    };
    expect(code({ init: 'xavier' })).toBe('INVALID_ARGUMENT');
    expect(code({ seed: -1 })).toBe('INVALID_ARGUMENT');
    expect(code({ only: new Set(['features.99.weight']) })).toBe('INVALID_ARGUMENT');
    expect(code({})).toBe('nothing');
  });

  test('is read once, and not after close', async () => {
    const source = initSource(small(), { init: 'pytorch', seed: 0 });
    await readAll(source);
    await expect(readAll(source)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await source.close();
    await source.close();
    await expect(readAll(source)).rejects.toMatchObject({ code: 'DISPOSED' });
  });
});
