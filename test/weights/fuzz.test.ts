import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VGGNetError } from '../../src/errors.js';
import { configOf } from '../../src/model/load.js';
import { VGGNet } from '../../src/model.js';
import { numel, Tensor } from '../../src/tensor.js';
import { createLayers } from '../../src/vgg.js';
import type { WeightsInput } from '../../src/weights/bytes/bytes.js';
import { isFloatDtype } from '../../src/weights/dtype.js';
import { completeStream, matchWeights } from '../../src/weights/match.js';
import { openWeights } from '../../src/weights/open.js';
import { saveSafetensors } from '../../src/weights/write.js';
import { stopwatch } from '../support/stopwatch.js';
import { fixture } from './fixtures.js';
import { makeOnnx, smallGraph } from './onnx-writer.js';
import { floats, legacy, ordered, pickle, storage, tensor, text } from './pickle-writer.js';
import { quantizedFile } from './quantized-file.js';
import { streamOf } from './rawfile.js';
import { concat, makeZip } from './zip-writer.js';

/*
 * Any bytes give weights or a typed error, in bounded time and memory. FUZZ_CASES=200000 runs as many cases in all,
 * where CI runs 2,000; FUZZ_SEED repeats a run.
 */

const CASES = Number(process.env.FUZZ_CASES ?? 2000);
const SEED = Number(process.env.FUZZ_SEED ?? 20_260_101);
/** Of one case, on a machine that does other things too. */
const PATIENCE_MS = 3000;
/** Beyond what the process had: files of 16 kB, chunks of 1 MiB and what V8 has not collected. */
const MEMORY_BYTES = 500e6;

type Bytes = Uint8Array<ArrayBuffer>;

const object = ordered(
  [text('a'), tensor(storage('0', 4), [2, 2], [1, 2])],
  [text('b'), tensor(storage('1', 2), [2], [1])],
);
const parts = [
  { name: 'x/data.pkl', data: pickle(object) },
  { name: 'x/byteorder', data: 'little' },
  { name: 'x/data/0', data: floats(1, 2, 3, 4) },
  { name: 'x/data/1', data: floats(5, 6) },
];
const tiny = { 'features.0.weight': Tensor.zeros([1, 1, 3, 3]), 'features.0.bias': Tensor.zeros([1]) };

/** Good files of each format: small ones made here, of which every byte counts, and those of other programs. */
const SEEDS: Readonly<Record<string, readonly Bytes[]>> = {
  safetensors: [
    saveSafetensors(tiny),
    saveSafetensors(tiny, { dtype: 'F16', metadata: { a: 'b' } }),
    await quantizedFile(),
  ],
  'torch zip': [
    makeZip(parts),
    makeZip(parts.map((part) => ({ ...part, sizes: 'behind', align: 64 }))),
    makeZip(
      parts.map((part) => ({ ...part, sizes: 'zip64' })),
      { zip64: true },
    ),
    fixture('views.pth'),
    fixture('nested.pth'),
    fixture('protocol-4.pth'),
  ],
  'torch legacy': [
    legacy(object, { 0: floats(1, 2, 3, 4), 1: floats(5, 6) }),
    fixture('views-legacy.pth'),
    fixture('bn-legacy.pth'),
  ],
  onnx: [makeOnnx(smallGraph()), makeOnnx(smallGraph({ batchNorm: true })), fixture('matmul.onnx'), fixture('bn.onnx')],
  npz: [fixture('keras.npz'), fixture('fortran.npz'), fixture('plain.npz')],
};

type Mutation = (bytes: Bytes) => Bytes;

/** Where to, as a share of the file; the start has most of what is checked, and the end a zip's directory. */
const place = fc.oneof(
  fc.double({ min: 0, max: 1, noNaN: true }),
  fc.double({ min: 0, max: 0.1, noNaN: true }),
  fc.double({ min: 0.9, max: 1, noNaN: true }),
);
const at = (bytes: Bytes, share: number): number => Math.min(bytes.length, Math.floor(share * bytes.length));
const changed = (bytes: Bytes, change: (copy: Bytes) => void): Bytes => {
  const copy = bytes.slice();
  change(copy);
  return copy;
};
const EXTREMES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 2 ** 53, 2 ** 63];

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.tuple(place, fc.nat(255)).map(
      ([share, value]) =>
        (bytes: Bytes) =>
          changed(bytes, (copy) => {
            copy[at(bytes, share)] = value;
          }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(place, fc.nat(7)).map(
      ([share, bit]) =>
        (bytes: Bytes) =>
          changed(bytes, (copy) => {
            copy[at(bytes, share)] = (copy[at(bytes, share)] ?? 0) ^ (1 << bit);
          }),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.tuple(place, fc.constantFrom(...EXTREMES), fc.constantFrom(2, 4, 8)).map(
      ([share, value, width]) =>
        (bytes: Bytes) =>
          changed(bytes, (copy) => {
            const field = new DataView(new ArrayBuffer(8));
            field.setBigUint64(0, BigInt(value), true);
            copy.set(
              new Uint8Array(field.buffer, 0, width).subarray(0, copy.length - at(bytes, share)),
              at(bytes, share),
            );
          }),
    ),
  },
  fc.tuple(place, fc.nat(64)).map(
    ([share, count]) =>
      (bytes: Bytes) =>
        concat([bytes.subarray(0, at(bytes, share)), bytes.subarray(at(bytes, share) + count)]),
  ),
  fc.tuple(place, fc.uint8Array({ maxLength: 32 })).map(
    ([share, more]) =>
      (bytes: Bytes) =>
        concat([bytes.subarray(0, at(bytes, share)), more, bytes.subarray(at(bytes, share))]),
  ),
  fc.tuple(place, place, fc.nat(64)).map(
    ([from, to, count]) =>
      (bytes: Bytes) =>
        concat([
          bytes.subarray(0, at(bytes, to)),
          bytes.subarray(at(bytes, from), at(bytes, from) + count),
          bytes.subarray(at(bytes, to)),
        ]),
  ),
  fc.tuple(place).map(
    ([share]) =>
      (bytes: Bytes) =>
        bytes.slice(0, at(bytes, share)),
  ),
);

/** A good file with a few changes; or its first bytes, and then anything. */
function damaged(seeds: readonly Bytes[]): fc.Arbitrary<Bytes> {
  const seed = fc.constantFrom(...seeds);
  return fc.oneof(
    {
      weight: 9,
      arbitrary: fc
        .tuple(seed, fc.array(mutation, { minLength: 1, maxLength: 4 }))
        .map(([bytes, list]) => list.reduce((now, change) => change(now), bytes)),
    },
    {
      weight: 1,
      arbitrary: fc
        .tuple(seed, place, fc.uint8Array({ maxLength: 200 }))
        .map(([bytes, share, rest]) => concat([bytes.subarray(0, at(bytes, share)), rest])),
    },
  );
}

const arrival = fc.oneof(
  fc.constant((bytes: Bytes): WeightsInput => bytes),
  fc.integer({ min: 1, max: 4000 }).map(
    (part) =>
      (bytes: Bytes): WeightsInput =>
        streamOf(bytes, part),
  ),
);

/** Opens and reads all that a model would, and all else. */
async function readAll(input: WeightsInput): Promise<void> {
  const source = await openWeights(input);
  const names = source.entries.filter(({ dtype }) => isFloatDtype(dtype)).map(({ name }) => name);
  const left = new Map(source.entries.map(({ name, shape }) => [name, numel(shape)]));
  for await (const { name, data } of source.chunks(new Set(names)))
    left.set(name, (left.get(name) as number) - data.length);
  for (const name of names)
    if (left.get(name) !== 0 && !name.endsWith('num_batches_tracked'))
      throw new Error(`${name}: ${left.get(name)} left`);
}

/** Matches with the network that the file describes, and reads that. */
async function readModel(input: WeightsInput): Promise<void> {
  const source = await openWeights(input);
  try {
    for await (const _ of completeStream(matchWeights(source, createLayers(await configOf(source, {}))))) {
      // All values are counted.
    }
  } finally {
    await source.close();
  }
}

async function run(what: string, work: () => Promise<unknown>): Promise<boolean> {
  const elapsed = stopwatch();
  let read = true;
  try {
    await work();
  } catch (error) {
    if (!(error instanceof VGGNetError) || error.code === 'DISPOSED') throw error;
    read = false;
  }
  expect(elapsed(), what).toBeLessThan(PATIENCE_MS);
  return read;
}

async function fuzz(what: string, share: number, files: fc.Arbitrary<Bytes>): Promise<number> {
  const before = process.memoryUsage().rss;
  let good = 0;
  await fc.assert(
    fc.asyncProperty(files, arrival, fc.boolean(), async (bytes, arrive, model) => {
      if (await run(what, () => (model ? readModel(arrive(bytes)) : readAll(arrive(bytes))))) good++;
    }),
    { numRuns: Math.ceil(CASES * share), seed: SEED },
  );
  expect(process.memoryUsage().rss - before).toBeLessThan(MEMORY_BYTES);
  return good;
}

const TIMEOUT_MS = 60_000 + CASES * 100;

describe('any bytes give weights or a typed error', () => {
  test.each(Object.keys(SEEDS))('%s, damaged', { timeout: TIMEOUT_MS }, async (format) => {
    const seeds = SEEDS[format] as readonly Bytes[];
    for (const bytes of seeds) expect(await run(format, () => readAll(bytes))).toBe(true);
    // Some damage does no harm: so it is seen that the reader gets past its first checks.
    expect(await fuzz(format, 0.18, damaged(seeds))).toBeGreaterThan(0);
  });

  test('bytes of no format', { timeout: TIMEOUT_MS }, async () => {
    const marks = ['PK\x03\x04', '\x80\x02', '\x08\x07\x12', '\x93NUMPY', ''].map((mark) =>
      Uint8Array.from(mark, (c) => c.charCodeAt(0)),
    );
    const any = fc.tuple(fc.constantFrom(...marks), fc.uint8Array({ maxLength: 300 })).map((both) => concat(both));
    await fuzz('noise', 0.05, any);
  });

  test('pickles of any opcodes', { timeout: TIMEOUT_MS }, async () => {
    const values = fc.oneof(
      fc.constantFrom(text('a'), storage('0', 4), tensor(storage('1', 2), [2], [1]), ordered(), Uint8Array.of(0x4b, 3)),
      fc.constantFrom(...'(.)]}\x85\x86\x87t0eausRb\x81\x93Q\x94'.split('').map((c) => Uint8Array.of(c.charCodeAt(0)))),
      fc.nat(3).map((index) => Uint8Array.of(0x71, index)),
      fc.nat(3).map((index) => Uint8Array.of(0x68, index)),
    );
    const pickles = fc.array(values, { maxLength: 40 }).map((list) => concat(list));
    const files = pickles.map((one) => legacy(concat([object, one]), { 0: floats(1, 2, 3, 4), 1: floats(5, 6) }));
    await fuzz('pickle', 0.05, files);
  });
});

test('any bytes give a model or a typed error', { timeout: TIMEOUT_MS }, async () => {
  const models = ['plain.pth', 'plain-legacy.pth', 'plain.onnx', 'keras.npz', 'bn.pth'].map(fixture);
  const load = async (input: WeightsInput): Promise<void> => {
    using model = await VGGNet.load(input, { device: 'wasm', inline: true, threads: 1 });
    expect(model.parameters).toBeGreaterThan(0);
  };
  for (const bytes of models) expect(await run('model', () => load(bytes))).toBe(true);
  let good = 0;
  await fc.assert(
    fc.asyncProperty(damaged(models), arrival, async (bytes, arrive) => {
      const loaded = await run('model', () => load(arrive(bytes)));
      if (loaded) good++;
    }),
    { numRuns: Math.ceil(CASES / 20), seed: SEED },
  );
  expect(good).toBeGreaterThan(0);
});
