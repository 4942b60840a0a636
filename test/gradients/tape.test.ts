import { describe, expect, test } from 'vitest';
import type { Autograd, Backend } from '../../src/backend.js';
import { resolveConfig } from '../../src/model/config.js';
import type { CreateOptions } from '../../src/model/options.js';
import { VGGNet } from '../../src/model.js';
import { createReferenceBackend } from '../../src/reference/backend.js';
import { Tensor } from '../../src/tensor.js';
import { createLayers } from '../../src/vgg.js';
import { createWasmBackend } from '../../src/wasm/backend.js';
import { saveSafetensors } from '../../src/weights/write.js';
import { compileGenerated } from '../support/golden.js';
import { autogradOf, relativeError } from '../support/gradients.js';
import { expectRefused } from './refused.js';

/* The interface on VGGNet: what record, backward, gradients and zeroGrad promise, on every backend that has them. */

const LIST = [6, 'M', 9, 8, 'M'] as const;
const OPTIONS: CreateOptions = { numClasses: 5, hiddenFeatures: 12, poolSize: 2, batchNorm: false, seed: 3 };
const SHAPE = [2, 3, 12, 10];
const input = (seed = 1): Tensor => Tensor.randn(SHAPE, { seed });

const DEVICES: readonly (readonly [string, CreateOptions])[] = [
  ['reference', { device: 'reference' }],
  ['wasm, inline', { device: 'wasm', inline: true }],
  ['wasm, in a worker', { device: 'wasm', threads: 1 }],
  ['wasm, on two threads', { device: 'wasm', threads: 2 }],
];

describe.each(DEVICES)('on %s', (_, device) => {
  const create = (options: CreateOptions = {}): Promise<VGGNet> =>
    VGGNet.create(LIST, { ...OPTIONS, ...device, gradients: true, ...options });

  test('outputs are those of features, by the names asked for', async () => {
    using model = await create();
    const expected = await model.features(input(), ['relu2_1', 'fc8', 'features.0']);
    const tape = await model.record(input(), ['relu2_1', 'logits', 'features.0']);
    expect(tape.outputs.relu2_1).toEqual(expected.relu2_1);
    expect(tape.outputs.logits).toEqual(expected.fc8);
    expect(tape.outputs['features.0']).toEqual(expected['features.0']);
    expect((await model.features(input(), ['logits'])).logits).toEqual(expected.fc8);
  });

  test('the directional derivative of the logits is that of a difference', async () => {
    using model = await create();
    const tape = await model.record(input(), ['logits']);
    const cotangent = Tensor.randn([2, 5], { seed: 9 });
    const { input: dx } = await tape.backward({ logits: cotangent }, { wrt: ['input'] });
    const direction = Tensor.randn(SHAPE, { seed: 8 });
    const step = 1e-3;
    const at = async (sign: number): Promise<number> => {
      const moved = input().data.map((value, i) => value + sign * step * (direction.data[i] as number));
      const { data } = await model.forward(new Tensor(moved, SHAPE));
      return data.reduce((sum, value, i) => sum + value * (cotangent.data[i] as number), 0);
    };
    const numeric = ((await at(1)) - (await at(-1))) / (2 * step);
    const exact = dx.data.reduce((sum, value, i) => sum + value * (direction.data[i] as number), 0);
    expect(Math.abs(exact - numeric)).toBeLessThan(5e-3 * Math.abs(numeric) + 1e-3);
  });

  test('gradients add up over calls, as cotangents do, and zeroGrad clears them', async () => {
    using model = await create();
    const tape = await model.record(input(), ['logits', 'relu2_1']);
    const a = { logits: Tensor.randn([2, 5], { seed: 4 }) };
    const b = { relu2_1: Tensor.randn(tape.outputs.relu2_1.shape, { seed: 5 }) };
    const first = await tape.backward(a, { wrt: ['input'] });
    const one = await model.gradients();
    const second = await tape.backward(b, { wrt: ['input'] });
    const two = await model.gradients();
    await model.zeroGrad();
    for (const gradient of (await model.gradients()).values()) expect(gradient.data.every((x) => x === 0)).toBe(true);
    const both = await tape.backward({ ...a, ...b }, { wrt: ['input'] });
    const together = await model.gradients();
    expect([...together.keys()]).toEqual([...(await model.stateDict()).keys()]);
    for (const [name, sum] of together) {
      expect(relativeError((two.get(name) as Tensor).data, sum.data), name).toBeLessThan(1e-5);
    }
    expect(one.get('features.0.weight')).not.toEqual(two.get('features.0.weight'));
    // What is after relu2_1 has nothing from it.
    expect(one.get('classifier.6.weight')).toEqual(two.get('classifier.6.weight'));
    const sum = first.input.data.map((value, i) => value + (second.input.data[i] as number));
    expect(relativeError(sum, both.input.data)).toBeLessThan(1e-5);
  });

  test('a layer with a cotangent gives it back, and layers go by any of their names', async () => {
    using model = await create();
    const tape = await model.record(input(), ['classifier.6', 'conv2_1']);
    const cotangent = Tensor.randn([2, 5], { seed: 4 });
    const result = await tape.backward({ fc8: cotangent }, { wrt: ['logits', 'fc8', 'conv_layers.3', 'conv2_1'] });
    expect(result.logits).toEqual(cotangent);
    expect(result.fc8).toEqual(cotangent);
    expect(result.fc8.data.buffer).not.toBe(result.logits.data.buffer);
    expect(result['conv_layers.3']).toEqual(result.conv2_1);
  });

  test('what the predicate chooses gets gradients, by torchvision names, or by those of a scheme', async () => {
    using model = await create({ gradients: (name) => name.startsWith('classifier.6') || name === 'features.3.bias' });
    const tape = await model.record(input(), ['logits']);
    expect(await tape.backward({ logits: Tensor.randn([2, 5]) })).toEqual({});
    expect([...(await model.gradients()).keys()]).toEqual([
      'features.3.bias',
      'classifier.6.weight',
      'classifier.6.bias',
    ]);
    expect([...(await model.gradients({ naming: 'lesson' })).keys()][0]).toBe('conv_layers.3.bias');
    using all = await create();
    const other = await all.record(input(), ['logits']);
    await other.backward({ logits: Tensor.randn([2, 5]) });
    const expected = await all.gradients();
    for (const [name, gradient] of await model.gradients()) expect(gradient).toEqual(expected.get(name));
  });

  test('train mode: dropout drops in backward what it dropped in forward', async () => {
    using model = await create({ dropout: 0.5 });
    model.train();
    const tape = await model.record(input(), ['drop7']);
    const ones = new Tensor(new Float32Array(24).fill(1), [2, 12]);
    const { relu7 } = await tape.backward({ drop7: ones }, { wrt: ['relu7'] });
    const dropped = (data: Float32Array): boolean[] => [...data].map((value) => value === 0);
    const alive = [...tape.outputs.drop7.data].map((value) => value !== 0);
    expect(relu7.data.some((value) => value === 0)).toBe(true);
    expect(dropped(relu7.data).every((gone, i) => !(gone && alive[i]))).toBe(true);
    expect([...relu7.data].every((value) => value === 0 || value === 2)).toBe(true);
  });

  test('a frozen batch norm keeps its statistics in train mode, and normalizes by them', async () => {
    const frozenBatchNorm = (path: string): boolean => path === 'features.1';
    using model = await create({ batchNorm: true, frozenBatchNorm, dropout: 0 });
    const before = await model.stateDict();
    const [evaluated] = Object.values(await model.features(input(), ['bn1_1']));
    model.train();
    const tape = await model.record(input(), ['bn1_1', 'logits']);
    expect(relativeError(tape.outputs.bn1_1.data, (evaluated as Tensor).data)).toBeLessThan(1e-6);
    const after = await model.stateDict();
    expect(after.get('features.1.running_mean')).toEqual(before.get('features.1.running_mean'));
    expect(after.get('features.5.running_mean')).not.toEqual(before.get('features.5.running_mean'));
    await tape.backward({ logits: Tensor.randn([2, 5]) });
    expect((await model.gradients()).get('features.1.weight')?.data.some((value) => value !== 0)).toBe(true);
  });

  test('a NaN flows as in PyTorch: through what is above it, and not past a zero of a ReLU', async () => {
    using model = await create();
    const tape = await model.record(input(), ['relu1_1']);
    const cotangent = Tensor.zeros(tape.outputs.relu1_1.shape);
    cotangent.data.fill(NaN);
    const { conv1_1 } = await tape.backward({ relu1_1: cotangent }, { wrt: ['conv1_1'] });
    const zeros = [...tape.outputs.relu1_1.data].map((value) => value <= 0);
    expect([...conv1_1.data].map((value) => value === 0)).toEqual(zeros);
    expect(conv1_1.data.some((value) => Number.isNaN(value))).toBe(true);
  });

  test('cotangents and inputs are copied before a call returns', async () => {
    using model = await create();
    const x = input();
    const recording = model.record(x, ['logits']);
    x.data.fill(NaN);
    const tape = await recording;
    const cotangent = Tensor.randn([2, 5]);
    const running = tape.backward({ logits: cotangent }, { wrt: ['input'] });
    cotangent.data.fill(NaN);
    const { input: dx } = await running;
    expect(dx).toEqual((await tape.backward({ logits: Tensor.randn([2, 5]) }, { wrt: ['input'] })).input);
    expect(dx.data.every(Number.isFinite)).toBe(true);
  });

  describe('refused', () => {
    const ones = new Tensor(new Float32Array(10).fill(1), [2, 5]);

    test('a tape that another run, a dispose or loadWeights has dropped', async () => {
      using model = await create();
      const again = async (what: (model: VGGNet) => unknown): Promise<void> => {
        const tape = await model.record(input(), ['logits']);
        await what(model);
        await expectRefused(() => tape.backward({ logits: ones }), 'TAPE_DROPPED', /[Rr]ecord/);
      };
      await again(() => model.forward(input()));
      await again(() => model.features(input(), ['relu1_1']));
      await again(() => model.profile(input()));
      await again(() => model.record(input(), ['relu1_1']));
      const weights = new Uint8Array(
        await new Response(model.save() as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer(),
      );
      await again(() => model.loadWeights(weights));
      const tape = await model.record(input(), ['logits']);
      tape.dispose();
      tape.dispose();
      await expectRefused(() => tape.backward({ logits: ones }), 'TAPE_DROPPED', /[Rr]ecord/);
      // Reading is no run.
      const kept = await model.record(input(), ['logits']);
      await model.stateDict();
      await model.gradients();
      await kept.backward({ logits: ones });
    });

    test('a model that is gone', async () => {
      const model = await create();
      const tape = await model.record(input(), ['logits']);
      model.dispose();
      await expectRefused(() => tape.backward({ logits: ones }), 'DISPOSED');
      await expectRefused(() => model.gradients(), 'DISPOSED');
      await expectRefused(() => model.record(input(), ['logits']), 'DISPOSED');
    });

    test('cotangents that do not fit', async () => {
      using model = await create();
      const tape = await model.record(input(), ['relu2_1', 'logits']);
      const refused = (
        cotangents: unknown,
        ...rest: Parameters<typeof expectRefused> extends [unknown, ...infer R] ? R : never
      ) => expectRefused(() => tape.backward(cotangents as Record<string, Tensor>), ...rest);
      await refused({ relu1_1: ones }, 'INVALID_ARGUMENT', "'relu1_1'", /relu2_1, fc8/, 'record');
      await refused({ relu9_1: ones }, 'UNKNOWN_LAYER', "'relu9_1'");
      await refused({ logits: new Tensor(new Float32Array(5), [1, 5]) }, 'INVALID_SHAPE', /\[2, 5\].*\[1, 5\]/);
      await refused({ logits: ones, fc8: ones }, 'INVALID_ARGUMENT', "'logits' and 'fc8'");
      await refused({ logits: new Float32Array(10) }, 'INVALID_ARGUMENT', "'logits'", 'Tensor');
      await refused({}, 'INVALID_ARGUMENT', 'cotangent');
      await refused(ones, 'INVALID_ARGUMENT', '{ logits: tensor }');
      await refused(null, 'INVALID_ARGUMENT', '{ logits: tensor }');
      const gone = new Tensor(new Float32Array(10), [2, 5]);
      structuredClone(gone.data.buffer, { transfer: [gone.data.buffer as ArrayBuffer] });
      await refused({ logits: gone }, 'INVALID_SHAPE', 'detached');
    });

    test('wrt that has no gradient, and rules that are none', async () => {
      using model = await create();
      const tape = await model.record(input(), ['relu2_1', 'logits']);
      const cotangents = { relu2_1: Tensor.zeros(tape.outputs.relu2_1.shape) };
      await expectRefused(() => tape.backward(cotangents, { wrt: ['relu9'] }), 'UNKNOWN_LAYER', "'relu9'");
      await expectRefused(() => tape.backward(cotangents, { wrt: ['fc6'] }), 'INVALID_ARGUMENT', "'fc6'", 'relu2_1');
      await expectRefused(() => tape.backward(cotangents, { wrt: 'input' as never }), 'INVALID_ARGUMENT', 'list');
      const reluRule = 'deconvnet' as never;
      await expectRefused(() => tape.backward(cotangents, { reluRule }), 'INVALID_ARGUMENT', "'guided'");
      using layersOnly = await create({ gradients: () => false });
      const other = await layersOnly.record(input(), ['logits']);
      await expectRefused(() => other.backward({ logits: ones }), 'INVALID_ARGUMENT', 'wrt');
      await expectRefused(() => layersOnly.gradients(), 'NO_GRADIENTS', 'gradients');
      await other.backward({ logits: ones }, { wrt: ['input'] });
    });

    test('a model that was made without gradients', async () => {
      using model = await create({ gradients: false });
      await expectRefused(() => model.record(input(), ['logits']), 'NOT_TRAINABLE', 'gradients: true');
      await expectRefused(() => model.gradients(), 'NOT_TRAINABLE', 'gradients: true');
      await expectRefused(() => model.zeroGrad(), 'NOT_TRAINABLE', 'gradients: true');
    });

    test.each(['fp16', 'int8', 'int4'] as const)(
      'gradients of parameters in %s; layers have theirs',
      async (precision) => {
        await expectRefused(() => create({ precision }), 'NOT_TRAINABLE', "precision: 'fp32'", 'features.0.weight');
        using model = await create({ precision, gradients: () => false });
        const tape = await model.record(input(), ['logits']);
        const { input: dx } = await tape.backward({ logits: ones }, { wrt: ['input'] });
        // Those of the rounded weights, which a model has that was given them in float32.
        using plain = await create({ gradients: () => false, weights: saveSafetensors(await model.stateDict()) });
        const expected = await (await plain.record(input(), ['logits'])).backward({ logits: ones }, { wrt: ['input'] });
        expect(relativeError(dx.data, expected.input.data)).toBeLessThan(1e-5);
        using mixed = await create({ precision: { fc: precision }, gradients: (name) => name.startsWith('features') });
        expect((await mixed.gradients()).has('features.0.weight')).toBe(true);
      },
    );

    test('options that are no choice', async () => {
      await expectRefused(() => create({ gradients: 'all' as never }), 'INVALID_ARGUMENT', 'gradients');
      await expectRefused(() => create({ frozenBatchNorm: 1 as never }), 'INVALID_ARGUMENT', 'frozenBatchNorm');
      using model = await create();
      await expectRefused(() => model.record(input(), []), 'INVALID_ARGUMENT', 'layer names');
      await expectRefused(() => model.record(input(), ['fc9']), 'UNKNOWN_LAYER', 'fc9');
    });

    test('an aborted backward, after which gradients are clear and the tape goes on', async () => {
      using model = await create();
      const tape = await model.record(input(), ['logits']);
      await tape.backward({ logits: ones });
      const controller = new AbortController();
      const running = tape.backward({ logits: ones }, { wrt: ['input'], signal: controller.signal });
      controller.abort();
      await expectRefused(() => running, 'ABORTED');
      const cleared = await model.gradients();
      await tape.backward({ logits: ones });
      const after = await model.gradients();
      for (const [name, gradient] of cleared) {
        const whole = (after.get(name) as Tensor).data;
        // Either the whole of it came before the signal, or nothing is left of it.
        expect(gradient.data.every((value) => value === 0) || relativeError(gradient.data, whole) < 1).toBe(true);
      }
    });
  });
});

describe('devices', () => {
  test("'auto' is WebAssembly for a model with gradients, and says why", async () => {
    using model = await VGGNet.create(LIST, { ...OPTIONS, gradients: () => false });
    expect(model.device).toMatchObject({ backend: 'wasm', reason: expect.stringMatching(/gradients/) });
  });

  test('any number of threads gives the same bits', async () => {
    const gradientsOn = async (threads: number): Promise<Map<string, Tensor>> => {
      using model = await VGGNet.create([24, 'M', 40, 17, 'M'], {
        ...OPTIONS,
        device: 'wasm',
        threads,
        gradients: true,
      });
      const tape = await model.record(Tensor.randn([3, 3, 37, 29], { seed: 2 }), ['logits', 'relu2_1']);
      const cotangents = {
        logits: Tensor.randn(tape.outputs.logits.shape, { seed: 3 }),
        relu2_1: Tensor.randn(tape.outputs.relu2_1.shape, { seed: 4 }),
      };
      const { input: dx } = await tape.backward(cotangents, { wrt: ['input'] });
      return new Map([...(await model.gradients()), ['input', dx]]);
    };
    const one = await gradientsOn(1);
    for (const threads of [2, 3]) expect(await gradientsOn(threads)).toEqual(one);
  });

  test('too little memory is said before any is taken', async () => {
    const options = { ...OPTIONS, device: 'wasm', inline: true, gradients: true } as const;
    using model = await VGGNet.create(LIST, { ...options, memoryLimit: 4 * 2 ** 20 });
    await expectRefused(() => model.record(Tensor.randn([64, 3, 32, 32]), ['logits']), 'OUT_OF_MEMORY', /MiB/, 'fewer');
    await model.record(input(), ['logits']);
    await expectRefused(
      () => VGGNet.create('vgg16', { device: 'wasm', inline: true, gradients: true, memoryLimit: 700 * 2 ** 20 }),
      'OUT_OF_MEMORY',
      'gradients',
    );
  });

  test('gram and its gradient are those of the reference', async () => {
    const layers = createLayers(resolveConfig([4, 'M'], { numClasses: 2, hiddenFeatures: 4, poolSize: 1 }));
    const on = async (backend: Backend): Promise<Autograd> =>
      autogradOf(await compileGenerated(backend, layers, { gradients: new Set() }));
    const [wasm, reference] = [
      await on(createWasmBackend({ inline: true, reason: 'asked for by a test' })),
      await on(createReferenceBackend()),
    ];
    for (const shape of [
      [2, 5, 3, 7],
      [1, 1, 1, 1],
      [1, 300, 4, 2],
    ]) {
      const [n = 0, c = 0] = shape;
      const x = Tensor.randn(shape, { seed: 1 });
      const dg = Tensor.randn([n, c, c], { seed: 2 });
      const expected = await reference.gram(x);
      const actual = await wasm.gram(x);
      expect(actual.shape).toEqual(expected.shape);
      expect(relativeError(actual.data, expected.data)).toBeLessThan(1e-6);
      const dx = await wasm.gramBackward(x, dg);
      expect(dx.shape).toEqual(shape);
      expect(relativeError(dx.data, (await reference.gramBackward(x, dg)).data)).toBeLessThan(1e-6);
    }
    expect(await wasm.dot(Tensor.randn([5]), Tensor.randn([5]))).toBeCloseTo(
      await reference.dot(Tensor.randn([5]), Tensor.randn([5])),
    );
  });
});
