import { Tensor, VGGNet } from 'vggnet';
import { describe, expect, test } from 'vitest';
import { resolveConfig } from '../../src/model/config.js';
import type { Layer } from '../../src/program/layers.js';
import { createLayers } from '../../src/vgg.js';
import { compileKernels } from '../../src/wasm/build.js';
import { Engine } from '../../src/wasm/engine/engine.js';
import { instantiateKernels } from '../../src/wasm/engine/instance.js';
import { CONTROL, chooseAlgorithms, keptBytes, SCRATCH } from '../../src/wasm/plan/memory.js';
import { PlanCache } from '../../src/wasm/plan/plan-cache.js';
import { expectClose } from '../support/close.js';
import { generatedParameters } from '../support/generated.js';
import { stopwatch } from '../support/stopwatch.js';

const LIST = [16, 48, 'M', 64, 96, 'M'] as const;
const OPTIONS = { numClasses: 30, hiddenFeatures: 40, poolSize: 2, seed: 5, threads: 1 };
const SHAPE = [1, 3, 64, 48];
const MIB = 2 ** 20;

const layersOf = (list: Parameters<typeof resolveConfig>[0]): Layer[] => createLayers(resolveConfig(list, OPTIONS));

/** The engine's memory after one forward of the usual shape, and its answer. */
async function runEngine(layers: readonly Layer[], memoryLimit?: number): Promise<{ bytes: number; logits: Tensor }> {
  const program = { layers, inputShape: SHAPE };
  const plans = new PlanCache(program, { winograd: true, threads: 1, memoryLimit });
  const engine = await Engine.create(await compileKernels('simd'), plans.config);
  for await (const chunk of generatedParameters(layers)) engine.writeParameter(chunk);
  engine.finishParameters();
  const control = { pause: async () => {}, aborted: () => false, onStep: () => {} };
  const run = { outputs: ['prob'], mode: 'eval', seed: 0 } as const;
  const [logits] = await engine.run(Tensor.randn(SHAPE, { seed: 1 }), plans.plan(SHAPE, run), run, control);
  return { bytes: engine.sharedMemory.memory.buffer.byteLength, logits: logits as Tensor };
}

describe('memoryLimit', () => {
  const layers = layersOf(LIST);
  const program = { layers, inputShape: SHAPE };
  const algorithmsFor = (memoryLimit?: number): string =>
    chooseAlgorithms(program, { winograd: true, threads: 1, memoryLimit }).join(' ');

  /** The least limit that is not refused, to the page of 64 KiB. */
  function leastLimit(): number {
    let [refused, taken] = [0, 64 * MIB];
    while (taken - refused > 65_536) {
      const middle = (refused + taken) / 2;
      try {
        algorithmsFor(middle);
        taken = middle;
      } catch {
        refused = middle;
      }
    }
    return taken;
  }

  test('sizes that are written twice agree', async () => {
    const memory = new WebAssembly.Memory({ initial: 1, maximum: 65_536 });
    const kernels = await instantiateKernels(await compileKernels('simd'), memory);
    expect(SCRATCH).toBe(kernels.SCRATCH.value);
    expect(CONTROL).toBe(kernels.CONTROL.value);
  });

  test('any limit that is taken is kept, and the answer stays', async () => {
    const free = await runEngine(layers);
    const least = leastLimit();
    expect(least).toBeLessThan(free.bytes);
    const algorithms = new Set<string>();
    for (let step = 0; step <= 8; step++) {
      const limit = least + ((free.bytes - least) * step) / 8;
      algorithms.add(algorithmsFor(limit));
      const { bytes, logits } = await runEngine(layers, limit);
      expect(bytes).toBeLessThanOrEqual(limit);
      expectClose(logits.data, free.logits.data, { atol: 1e-5, rtol: 1e-4, what: `logits within ${limit} bytes` });
    }
    // From none to all of the transformed weights.
    expect(algorithms.size).toBeGreaterThan(2);
    expect(algorithmsFor(free.bytes)).toBe(algorithmsFor());
  });

  test('what is too little is refused at once, with what is needed, and nothing is taken', async () => {
    const least = leastLimit();
    const before = process.memoryUsage().rss;
    const elapsed = stopwatch();
    const create = VGGNet.create('vgg16', { threads: 1, memoryLimit: 500 * MIB, device: 'wasm' });
    await expect(create).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/needs a WebAssembly memory of 546 MiB .* 3×224×224; memoryLimit is 500 MiB/),
    });
    expect(elapsed()).toBeLessThan(1000);
    expect(process.memoryUsage().rss - before).toBeLessThan(64 * MIB);
    expect(() => algorithmsFor(least - 2 * 65_536)).toThrow(/memory of .* MiB for the weights and one input/);
  });

  test('weights over what WebAssembly can have are refused without a limit too', () => {
    expect(() => chooseAlgorithms({ layers: layersOf([65_536, 65_536]) }, { winograd: true, threads: 1 })).toThrow(
      /for the weights; the most is 4096 MiB/,
    );
  });

  test.each([0, -1, Number.NaN, '1'])('%s is refused', async (memoryLimit) => {
    const create = VGGNet.create(LIST, { ...OPTIONS, device: 'wasm', memoryLimit: memoryLimit as number });
    await expect(create).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining('memoryLimit must be a number of bytes above 0'),
    });
  });

  test.each([true, false])('a batch over the limit runs in parts, to the same bits; inline: %s', async (inline) => {
    const kept = keptBytes(
      layers,
      layers.map(() => 'direct'),
      1,
    );
    // The usual shape is 224×224 here.
    using model = await VGGNet.create(LIST, { ...OPTIONS, inline, device: 'wasm', memoryLimit: kept + 8 * MIB });
    const batch = Tensor.randn([70, 3, 40, 40], { seed: 2 });
    const all = await model.features(batch, ['relu2_2', 'prob']);
    for (const n of [0, 34, 35, 69]) {
      const one = new Tensor(batch.data.slice(n * 4800, (n + 1) * 4800), [1, 3, 40, 40]);
      const alone = await model.features(one, ['relu2_2', 'prob']);
      for (const name of ['relu2_2', 'prob'] as const) {
        const size = alone[name].size;
        const same = all[name].data
          .subarray(n * size, (n + 1) * size)
          .every((value, i) => value === alone[name].data[i]);
        expect(same, `${name} of image ${n}`).toBe(true);
      }
    }
    // One that can't be run in parts, and the model goes on.
    const large = Tensor.zeros([1, 3, 900, 900]);
    await expect(model.forward(large)).rejects.toMatchObject({
      code: 'OUT_OF_MEMORY',
      message: expect.stringMatching(/activations need a WebAssembly memory of \d+ MiB.*limit \d+ MiB/),
    });
    expect((await model.forward(batch)).shape).toEqual([70, 30]);
  });
});

describe("summary() states the transformed weights' cost", () => {
  test('as they are packed', async () => {
    using model = await VGGNet.create(LIST, { ...OPTIONS, device: 'wasm' });
    using direct = await VGGNet.create(LIST, { ...OPTIONS, device: 'wasm', winograd: false });
    const summary = model.summary();
    const usual = { layers: model.layers, inputShape: [1, 3, 224, 224] };
    const algorithms = chooseAlgorithms(usual, { winograd: true, threads: 1 });
    const none = algorithms.map(() => 'direct' as const);
    expect(summary.transformedBytes).toBeGreaterThan(0);
    expect(summary.transformedBytes).toBe(keptBytes(model.layers, algorithms, 1) - keptBytes(model.layers, none, 1));
    // F(6×6, 3×3) of 64 → 96 channels: 8 × 8 places.
    expect(summary.layers.find(({ name }) => name === 'conv2_2')?.transformedBytes).toBe(64 * 64 * 96 * 4);
    expect(String(summary)).toMatch(/conv2_2 .* 1\.5 MiB +\d+\.\d MiB\n/);
    expect(String(summary)).toContain(`Winograd's weights     ${(summary.transformedBytes / MIB).toFixed(1)} MiB more`);
    expect(direct.summary().transformedBytes).toBe(0);
  });
});
