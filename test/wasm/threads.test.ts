import { availableParallelism } from 'node:os';
import { Tensor, VGGNet } from 'vggnet';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runModule } from '../support/child.js';

/** Layers that run directly and by Winograd's method, channels that fill no panel, and sizes that no tile divides. */
const LIST = [20, 33, 'M', 64, 64, 'M', 70] as const;
const OPTIONS = { device: 'wasm' as const, batchNorm: true, numClasses: 37, hiddenFeatures: 50, poolSize: 2, seed: 5 };
const COUNTS = [1, 2, 3, 4, 5, 7, 8, 11, 16];
/** One with fewer tiles than threads, one with more blocks than threads, and batches of them. */
const SHAPES = [
  [1, 3, 9, 8],
  [3, 3, 9, 8],
  [1, 3, 101, 94],
  [3, 3, 30, 33],
];

/** Not `toEqual`, which takes a second for a million values. */
function sameBits(a: Tensor | undefined, b: Tensor | undefined): boolean {
  return a !== undefined && b !== undefined && Buffer.compare(bytes(a), bytes(b)) === 0;
}

const bytes = ({ data }: Tensor): Uint8Array => new Uint8Array(data.buffer, data.byteOffset, data.byteLength);

describe.each([
  ['simd', true],
  ['simd', false],
  ['relaxed-simd', true],
  ['relaxed-simd', false],
] as const)('%s, winograd %s', (build, winograd) => {
  const models = new Map<number, VGGNet>();
  beforeAll(async () => {
    const options = { ...OPTIONS, winograd, deterministic: build === 'simd' };
    for (const threads of COUNTS) models.set(threads, await VGGNet.create(LIST, { ...options, threads }));
  });
  afterAll(() => {
    for (const model of models.values()) model.dispose();
  });

  test.each(SHAPES)('any number of threads gives the same bits: %i×%i×%i×%i', async (...shape) => {
    const input = Tensor.randn(shape, { seed: 3 });
    const names = ['relu1_1', 'pool1', 'relu2_2', 'pool2', 'relu3_1', 'fc8', 'prob'];
    const expected = await (models.get(1) as VGGNet).features(input, names);
    for (const [threads, model] of models) {
      expect(model.device).toMatchObject({ build, threads });
      // Twice: the second time the threads have been asleep, or not, at other places.
      for (let round = 0; round < 2; round++) {
        const outputs = await model.features(input, names);
        for (const name of names) {
          expect(sameBits(outputs[name], expected[name]), `${name} on ${threads} threads`).toBe(true);
        }
      }
    }
  });

  test('in train mode too', async () => {
    const input = Tensor.randn([2, 3, 21, 20], { seed: 4 });
    const results = [];
    for (const model of models.values()) {
      results.push((await model.train().forward(input)).data);
      model.eval();
    }
    for (const result of results) expect(result).toEqual(results[0]);
  });

  test('many short forwards, with and without a pause between them', async () => {
    const input = Tensor.randn([1, 3, 8, 8]);
    const model = models.get(3) as VGGNet;
    const expected = (await model.forward(input)).data;
    for (let i = 0; i < 200; i++) {
      if (i % 10 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      expect((await model.forward(input)).data).toEqual(expected);
    }
  });
});

test.each([0, -1, 1.5, 257, Number.NaN, '2'])('threads: %s is refused', async (threads) => {
  const create = VGGNet.create([8, 'M'], { ...OPTIONS, threads: threads as number });
  await expect(create).rejects.toMatchObject({
    code: 'INVALID_ARGUMENT',
    message: expect.stringMatching(/threads must be 'auto' or an integer from 1 to 256, got/),
  });
});

test("'auto' is one thread a core; inline it is one, and says why", async () => {
  using auto = await VGGNet.create([8, 'M'], OPTIONS);
  expect(auto.device.threads).toBe(Math.min(16, availableParallelism()));
  using inline = await VGGNet.create([8, 'M'], { ...OPTIONS, inline: true, threads: 4 });
  expect(inline.device).toMatchObject({ threads: 1, inline: true, reason: expect.stringContaining('one thread') });
});

test.each([
  ['a page that is not isolated', 'globalThis.crossOriginIsolated = false;'],
  [
    'a WebAssembly without shared memory',
    `const { Memory } = WebAssembly;
     WebAssembly.Memory = class extends Memory {
       constructor(limits) {
         if (limits.shared) throw new TypeError('no shared memory');
         super(limits);
       }
     };`,
  ],
])('%s: one thread computes, and the device says so', async (_, without) => {
  const { code, stdout, stderr } = await runModule(`
    ${without}
    const { Tensor, VGGNet } = await import('vggnet');
    const model = await VGGNet.create('glyphs', { device: 'wasm', threads: 4 });
    const { shape } = await model.forward(Tensor.randn([1, 1, 32, 32]));
    console.log(JSON.stringify({ shape, ...model.device }));
  `);
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  expect(JSON.parse(stdout)).toMatchObject({
    threads: 1,
    inline: false,
    reason: expect.stringMatching(/on one thread, since there is no shared memory/),
  });
});

test('idle threads burn no time, and let the process go', async () => {
  const program = `
    import { Tensor, VGGNet } from 'vggnet';
    const model = await VGGNet.create('glyphs', { device: 'wasm', threads: 4 });
    await model.forward(Tensor.randn([1, 1, 32, 32]));
    const before = process.cpuUsage();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    const { user, system } = process.cpuUsage(before);
    console.log((user + system) / 1000);
  `;
  const { code, stdout } = await runModule(program);
  expect(code).toBe(0);
  // Milliseconds of a second; a thread that spins would take all of it.
  expect(Number(stdout)).toBeLessThan(100);
});
