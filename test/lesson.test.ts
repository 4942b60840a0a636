import { type Architecture, type CreateOptions, Tensor, VGGNet } from 'vggnet';
import { describe, expect, test } from 'vitest';
import { expectClose } from './support/close.js';
import { NETWORK_TOLERANCE, readGolden } from './support/golden.js';
import { bitsOf, bytesOf, createSmall, smallInput } from './support/small.js';

interface LessonCase {
  readonly architecture: Architecture;
  readonly options: CreateOptions;
  readonly seed: number;
  readonly inputSeed: number;
  readonly shape: readonly number[];
  readonly eval: readonly number[];
  /** Of the whole batch, and then of its first two images. */
  readonly train: readonly [readonly number[], readonly number[]];
  readonly buffers: Readonly<Record<string, readonly number[]>>;
  readonly evalAfter: readonly number[];
}

describe.each(readGolden<LessonCase>('lesson'))('the lesson’s model of $architecture, from its seed', (golden) => {
  const { architecture, options, seed } = golden;
  const create = (): Promise<VGGNet> =>
    VGGNet.create(architecture, { ...options, seed, dropout: 0, deterministic: true });
  const x = (): Tensor => Tensor.randn(golden.shape, { seed: golden.inputSeed });

  test('gives PyTorch’s logits', async () => {
    using model = await create();
    const logits = await model.forward(x());
    expectClose(logits.data, golden.eval, { ...NETWORK_TOLERANCE, what: 'eval', shape: logits.shape });
  });

  test('in train mode uses the batch’s statistics and moves the running ones, as PyTorch does', async () => {
    using model = await create();
    expect(model.training).toBe(false);
    expect(model.train()).toBe(model);
    expect(model.training).toBe(true);
    const input = x();
    const first = new Tensor(input.data.slice(0, input.size / 2), [2, ...input.shape.slice(1)]);
    for (const [i, batch] of [input, first].entries()) {
      const { data, shape } = await model.forward(batch);
      expectClose(data, golden.train[i] as number[], { ...NETWORK_TOLERANCE, what: `train, forward ${i}`, shape });
    }
    const state = await model.stateDict({ naming: 'lesson' });
    expect([...state.keys()].filter((name) => name.includes('running'))).toEqual(Object.keys(golden.buffers));
    for (const [name, values] of Object.entries(golden.buffers)) {
      expectClose((state.get(name) as Tensor).data, values, { atol: 1e-6, rtol: 1e-5, what: name });
    }
    expect(model.eval()).toBe(model);
    const after = await model.forward(input);
    expectClose(after.data, golden.evalAfter, { ...NETWORK_TOLERANCE, what: 'eval after train', shape: after.shape });
  });
});

describe.each(['wasm', 'reference'] as const)('train mode on %s', (device) => {
  const create = (options: CreateOptions = {}): Promise<VGGNet> =>
    createSmall({ device, batchNorm: false, deterministic: true, hiddenFeatures: 400, ...options });

  test('dropout drops half, scales the rest, and drops other values in every forward', async () => {
    using model = await create({ dropout: 0.5 });
    model.train();
    const x = smallInput(4);
    const masks: string[] = [];
    for (let i = 0; i < 3; i++) {
      const { relu6, drop6 } = await model.features(x, ['relu6', 'drop6']);
      let live = 0;
      let dropped = 0;
      for (const [at, value] of relu6.data.entries()) {
        const out = drop6.data[at] as number;
        if (value === 0) continue;
        live++;
        if (out === 0) dropped++;
        else expect(out).toBe(2 * value);
      }
      // A binomial deviation of about 0.018: six of them.
      expect(Math.abs(dropped / live - 0.5)).toBeLessThan(0.11);
      masks.push([...drop6.data].map((value) => (value === 0 ? '0' : '1')).join(''));
    }
    expect(new Set(masks).size).toBe(3);
  });

  test('the same seed drops the same, another seed or a later forward does not', async () => {
    const x = smallInput();
    const runs = async (seed: number): Promise<number[][]> => {
      // The same weights, so that only dropout differs.
      using source = await create({ seed: 1 });
      using model = await create({ seed, weights: await bytesOf(source.save()) });
      model.train();
      const all: number[][] = [];
      for (let i = 0; i < 3; i++) all.push(bitsOf(await model.forward(x)));
      return all;
    };
    const [first, again, next] = [await runs(5), await runs(5), await runs(6)];
    expect(again).toEqual(first);
    // Also not the same ones moved by one, as seeds that are near might give.
    expect(new Set([...first, ...next].map(String)).size).toBe(6);
  });

  test('eval mode drops nothing, dropout 0 neither, and dropout 1 all', async () => {
    const x = smallInput();
    using model = await create({ dropout: 1 });
    const { relu7, drop7 } = await model.features(x, ['relu7', 'drop7']);
    expect(bitsOf(drop7)).toEqual(bitsOf(relu7));
    model.train();
    const dropped = await model.features(x, ['drop7', 'fc8']);
    expect(dropped.drop7.data.every((value) => value === 0)).toBe(true);
    const bias = (await model.stateDict()).get('classifier.6.bias') as Tensor;
    expect([...dropped.fc8.data]).toEqual([...bias.data]);
    using none = await create({ dropout: 0 });
    const plain = bitsOf(await none.forward(x));
    expect(bitsOf(await none.train().forward(x))).toEqual(plain);
  });

  test('train(false) is eval(), and a forward keeps the mode in which it began', async () => {
    using model = await create();
    const x = smallInput();
    const plain = bitsOf(await model.forward(x));
    expect(model.train().train(false).training).toBe(false);
    const inEval = model.forward(x);
    const inTrain = model.train().forward(x);
    model.eval();
    expect(bitsOf(await inEval)).toEqual(plain);
    expect(bitsOf(await inTrain)).not.toEqual(plain);
  });
});

test('batch norm’s running statistics stay in eval mode, and move in train mode with each batch', async () => {
  using model = await createSmall();
  const running = async (): Promise<number[]> => {
    const state = await model.stateDict();
    return [...state].filter(([name]) => name.includes('running')).flatMap(([, { data }]) => [...data]);
  };
  const before = await running();
  await model.forward(smallInput(2));
  expect(await running()).toEqual(before);
  model.train();
  await model.forward(smallInput(2));
  const after = await running();
  expect(after).not.toEqual(before);
  await model.forward(smallInput(2));
  expect(await running()).not.toEqual(after);
});
