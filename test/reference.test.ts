import { describe, expect, test } from 'vitest';
import type { Executable, ParameterChunk, ParameterStream } from '../src/backend.js';
import { VGGNetError } from '../src/errors.js';
import type { Layer } from '../src/program/layers.js';
import { createReferenceBackend } from '../src/reference/backend.js';
import type { Tensor } from '../src/tensor.js';
import { expectClose } from './support/close.js';
import { generatedParameters, generatedTensor } from './support/generated.js';
import {
  compileGenerated,
  expectCase,
  expectSpecialCase,
  type GoldenCase,
  layersOf,
  readGolden,
  type SpecialCase,
} from './support/golden.js';
import { program } from './support/kernel.js';

/* The oracle itself: its numbers against PyTorch, and its side of the backend contract. */

describe('the reference backend against PyTorch', () => {
  test.each(readGolden<GoldenCase>('small'))('the list network $name, mode $mode', async (golden) => {
    const executable = await compileGenerated(createReferenceBackend(), layersOf(golden));
    await expectCase(executable, golden, `of ${golden.name} on reference`);
  });

  test.each(readGolden<SpecialCase>('special'))('$name, batch norm $options.batchNorm', async (golden) => {
    const executable = await compileGenerated(createReferenceBackend(), layersOf(golden));
    await expectSpecialCase(executable, golden, `with ${golden.name} on reference`);
  });
});

const LAYERS: Layer[] = program(
  { op: 'conv2d', inChannels: 2, outChannels: 3 },
  { op: 'batchNorm2d', channels: 3 },
  { op: 'relu' },
  { op: 'flatten' },
  { op: 'linear', inFeatures: 3 * 4 * 5, outFeatures: 2 },
);
const LOGITS = { outputs: ['linear4'], mode: 'eval', seed: 0 } as const;
const input = (name = 'input'): Tensor => generatedTensor(name, [1, 2, 4, 5], 'input');
const compile = (): Promise<Executable> => compileGenerated(createReferenceBackend(), LAYERS);

describe('runs', () => {
  test('outputs come in the order asked for, twice if asked twice, each with data of its own', async () => {
    const executable = await compile();
    const outputs = ['flatten3', 'conv2d0', 'relu2', 'flatten3'];
    const [flat, conv, relu, again] = (await executable.run(input(), { ...LOGITS, outputs })) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ];
    expect([flat, conv, relu, again].map(({ shape }) => shape)).toEqual([
      [1, 60],
      [1, 3, 4, 5],
      [1, 3, 4, 5],
      [1, 60],
    ]);
    expect(again.data).toEqual(flat.data);
    expect(relu.data).toEqual(flat.data);
    expect(new Set([flat, conv, relu, again].map(({ data }) => data.buffer)).size).toBe(4);
    flat.data.fill(9);
    expect(again.data).not.toContain(9);
  });

  test('layers after the last output are not run', async () => {
    // The linear layer does not fit this input, but is not asked for.
    const wide = generatedTensor('input', [2, 2, 9, 9], 'input');
    const executable = await compile();
    const [relu] = await executable.run(wide, { ...LOGITS, outputs: ['relu2'] });
    expect(relu?.shape).toEqual([2, 3, 9, 9]);
    await expect(executable.run(wide, LOGITS)).rejects.toMatchObject({ code: 'INVALID_SHAPE' });
  });

  test('an unknown layer is refused by name, with the nearest ones', async () => {
    const executable = await compile();
    await expect(executable.run(input(), { ...LOGITS, outputs: ['relu2', 'relu9'] })).rejects.toMatchObject({
      code: 'UNKNOWN_LAYER',
      message: expect.stringMatching(/'relu9'; nearest: relu2/),
    });
  });

  test('the input is copied before the call returns, and is not changed', async () => {
    const executable = await compile();
    const x = input();
    const [expected] = await executable.run(x, LOGITS);
    expect(x.data).toEqual(input().data);
    const running = executable.run(x, LOGITS);
    x.data.fill(NaN);
    expect((await running)[0]?.data).toEqual(expected?.data);
  });

  test('runs that overlap give what they give alone, in order', async () => {
    const executable = await compile();
    const names = ['input a', 'input b', 'input c'];
    const alone: Tensor[][] = [];
    for (const name of names) alone.push(await executable.run(input(name), LOGITS));
    const order: number[] = [];
    const together = names.map(async (name, i) => {
      const outputs = await executable.run(input(name), LOGITS);
      order.push(i);
      return outputs;
    });
    expect(await Promise.all(together)).toEqual(alone);
    expect(order).toEqual([0, 1, 2]);
  });

  test('train mode moves the running statistics, which eval mode then uses', async () => {
    const executable = await compile();
    const before = await executable.readParameter('batchNorm2d1.running_mean');
    const [first] = await executable.run(input(), LOGITS);
    await executable.run(input(), { ...LOGITS, mode: 'train' });
    expect(await executable.readParameter('batchNorm2d1.running_mean')).not.toEqual(before);
    const [second] = await executable.run(input(), LOGITS);
    expect(second?.data).not.toEqual(first?.data);
  });

  test('a failed run leaves the queue and the model usable', async () => {
    const executable = await compile();
    const failing = executable.run(generatedTensor('input', [1, 3, 4, 5], 'input'), LOGITS);
    const next = executable.run(input(), LOGITS);
    await expect(failing).rejects.toMatchObject({ code: 'INVALID_SHAPE' });
    expect((await next)[0]?.shape).toEqual([1, 2]);
  });
});

describe('abort and dispose', () => {
  test('a signal that has fired, or fires between layers, ends that run alone', async () => {
    const executable = await compile();
    const reason = new Error('enough');
    await expect(executable.run(input(), { ...LOGITS, signal: AbortSignal.abort(reason) })).rejects.toMatchObject({
      code: 'ABORTED',
      name: 'AbortError',
      cause: reason,
    });
    const controller = new AbortController();
    const running = executable.run(input(), { ...LOGITS, signal: controller.signal });
    // Fires in a turn of the event loop, which the run must leave it.
    setTimeout(() => controller.abort(), 0);
    await expect(running).rejects.toMatchObject({ code: 'ABORTED' });
    expect(await executable.run(input(), LOGITS)).toHaveLength(1);
  });

  test('dispose ends the run in progress and those in the queue, and refuses later calls', async () => {
    const executable = await compile();
    const runs = [executable.run(input(), LOGITS), executable.run(input(), LOGITS)];
    const reading = executable.readParameter('conv2d0.bias');
    executable.dispose();
    executable.dispose();
    const late = [executable.run(input(), LOGITS), executable.readParameter('conv2d0.bias')];
    const settled = await Promise.allSettled([...runs, reading, ...late]);
    for (const call of settled) expect(call).toMatchObject({ status: 'rejected', reason: { code: 'DISPOSED' } });
  });
});

describe('parameters', () => {
  /** The generated stream, changed. */
  async function* changed(change: (chunk: ParameterChunk) => ParameterChunk[]): ParameterStream {
    for await (const chunk of generatedParameters(LAYERS)) yield* change(chunk);
  }
  const bias = 'linear4.bias';
  const on = (name: string, change: (chunk: ParameterChunk) => ParameterChunk[]): ParameterStream =>
    changed((chunk) => (chunk.name === name ? change(chunk) : [chunk]));
  const compileWith = (stream: ParameterStream): Promise<Executable> =>
    createReferenceBackend().compile({ layers: LAYERS }, stream);

  test('are read back, as copies', async () => {
    const executable = await compile();
    const values = await executable.readParameter('conv2d0.weight');
    expectClose(values, generatedTensor('conv2d0.weight', [3, 2, 3, 3], 'weight').data, {
      atol: 0,
      rtol: 0,
      what: 'conv2d0.weight',
    });
    values.fill(0);
    expect(await executable.readParameter('conv2d0.weight')).not.toEqual(values);
    await expect(executable.readParameter('conv2d0.scale')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  test('may come in pieces, in any order', async () => {
    const pieces = on('linear4.weight', ({ name, data }) =>
      [70, 0, 30, 119].map((offset, i) => ({ name, offset, data: data.slice(offset, [119, 30, 70, 120][i]) })),
    );
    const executable = await compileWith(pieces);
    expect(await executable.run(input(), LOGITS)).toEqual(await (await compile()).run(input(), LOGITS));
  });

  test.each<[string, string, RegExp, (chunk: ParameterChunk) => ParameterChunk[]]>([
    ['never comes', 'WEIGHTS_MISMATCH', /'linear4\.bias'.*\[2\]/, () => []],
    [
      'is one too many',
      'WEIGHTS_MISMATCH',
      /'linear4\.scale'/,
      (chunk) => [chunk, { ...chunk, name: 'linear4.scale' }],
    ],
    ['is called __proto__', 'WEIGHTS_MISMATCH', /'__proto__'/, (chunk) => [chunk, { ...chunk, name: '__proto__' }]],
    ['ends early', 'INVALID_WEIGHTS_FILE', /linear4\.bias.*2 values.*got 1/, (c) => [{ ...c, data: c.data.slice(1) }]],
    ['comes twice', 'INVALID_WEIGHTS_FILE', /linear4\.bias.*twice/, (chunk) => [chunk, chunk]],
    [
      'is too long',
      'INVALID_WEIGHTS_FILE',
      /linear4\.bias.*2 values.*0 to 3/,
      (c) => [{ ...c, data: new Float32Array(3) }],
    ],
    ['starts before 0', 'INVALID_WEIGHTS_FILE', /linear4\.bias.*-1 to 1/, (chunk) => [{ ...chunk, offset: -1 }]],
    [
      'is no float32',
      'INVALID_DTYPE',
      /linear4\.bias.*Float32Array/,
      (chunk) => [{ ...chunk, data: new Float64Array(2) as unknown as Float32Array }],
    ],
  ])('a parameter that %s is %s, by name', async (_, code, message, change) => {
    const error = await compileWith(on(bias, change)).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(VGGNetError);
    expect(error).toMatchObject({ code, message: expect.stringMatching(message) });
  });

  test('a stream that throws, or a signal that fires, ends compile', async () => {
    const broken = on(bias, () => {
      throw new VGGNetError('IO', 'cable cut');
    });
    await expect(compileWith(broken)).rejects.toMatchObject({ code: 'IO' });
    const controller = new AbortController();
    const stopping = on(bias, (chunk) => {
      controller.abort();
      return [chunk];
    });
    await expect(
      createReferenceBackend().compile({ layers: LAYERS }, stopping, { signal: controller.signal }),
    ).rejects.toMatchObject({ code: 'ABORTED' });
  });
});
