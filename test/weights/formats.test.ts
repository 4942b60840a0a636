import { mkdtemp, readdir, readlink, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { CreateOptions } from '../../src/model/options.js';
import { VGGNet } from '../../src/model.js';
import { Tensor } from '../../src/tensor.js';
import type { WeightsInput } from '../../src/weights/bytes/bytes.js';
import { openWeights } from '../../src/weights/open.js';
import { saveSafetensors } from '../../src/weights/write.js';
import { expectClose } from '../support/close.js';
import { bitsOf, bitsOfAll, fixture, fixtureJson, fixturePath, floatsOf, readFloats } from './fixtures.js';
import { streamOf } from './rawfile.js';

const OPTIONS: CreateOptions = { device: 'wasm', threads: 1, inline: true, deterministic: true };
const SIDE = 8;
const x = new Tensor(
  Float32Array.from({ length: 3 * SIDE * SIDE }, (_, i) => -1 + (2 * i) / (3 * SIDE * SIDE - 1)),
  [1, 3, SIDE, SIDE],
);
const LIST = [4, 'M', 8, 8, 'M'] as const;
const PLAIN = { architecture: LIST, batchNorm: false, hiddenFeatures: 16, numClasses: 5, poolSize: 2, inChannels: 3 };
const expected = fixtureJson<{ plain: number[]; bn: number[] }>('logits.json');

async function logitsOf(model: VGGNet): Promise<string> {
  return bitsOf((await model.forward(x)).data);
}

async function loadLogits(input: WeightsInput, config: object = PLAIN): Promise<string> {
  using model = await VGGNet.load(input, OPTIONS);
  expect(model.config).toMatchObject(config);
  expect(model.incompatibleKeys).toEqual({ missingKeys: [], unexpectedKeys: [] });
  return await logitsOf(model);
}

/** The same weights as safetensors. */
async function safetensorsOf(
  name: string,
  naming: 'torchvision' | 'timm' | 'lesson',
): Promise<Uint8Array<ArrayBuffer>> {
  using model = await VGGNet.load(fixturePath(name), OPTIONS);
  return saveSafetensors(await model.stateDict({ naming }));
}

describe('one network, the same bits from every format', () => {
  test.each([
    'plain-legacy.pth',
    'nested.pth',
    'protocol-4.pth',
    'plain.onnx',
    'reshape.onnx',
    'matmul.onnx',
    'plain.npz',
    'fortran.npz',
    'keras.npz',
  ])('%s', async (name) => {
    const logits = await loadLogits(fixturePath('plain.pth'));
    expect(await loadLogits(fixturePath(name))).toBe(logits);
    const bytes = fixture(name);
    expect(await loadLogits(bytes)).toBe(logits);
    expect(await loadLogits(new Blob([bytes]))).toBe(logits);
    expect(await loadLogits(streamOf(bytes, 97))).toBe(logits);
    expect(await loadLogits(new Response(bytes))).toBe(logits);
  });

  test.each(['torchvision', 'timm', 'lesson'] as const)('safetensors with the names of %s', async (naming) => {
    const logits = await loadLogits(streamOf(fixture('plain.pth'), 50));
    expect(await loadLogits(await safetensorsOf('plain.pth', naming))).toBe(logits);
  });

  test('its logits are those of PyTorch', async () => {
    using model = await VGGNet.load(fixturePath('plain.pth'), OPTIONS);
    // Sums of up to 72 products of about 1 in another order: some 1e-6.
    expectClose((await model.forward(x)).data, expected.plain, { atol: 1e-5, rtol: 1e-5, what: 'plain.pth' });
  });

  test('create and loadWeights take them too', async () => {
    const logits = await loadLogits(fixturePath('plain.pth'));
    const options = { ...OPTIONS, batchNorm: false, hiddenFeatures: 16, numClasses: 5, poolSize: 2 };
    using created = await VGGNet.create(LIST, { ...options, weights: fixturePath('keras.npz') });
    expect(await logitsOf(created)).toBe(logits);
    using model = await VGGNet.create(LIST, options);
    expect(await logitsOf(model)).not.toBe(logits);
    expect(await model.loadWeights(fixture('matmul.onnx'))).toEqual({ missingKeys: [], unexpectedKeys: [] });
    expect(await logitsOf(model)).toBe(logits);
    await expect(model.loadWeights(fixture('bn.pth'))).rejects.toMatchObject({ code: 'WEIGHTS_MISMATCH' });
    expect(await logitsOf(model)).toBe(logits);
  });
});

describe('with batch norm', () => {
  const config = { ...PLAIN, batchNorm: true };

  test('bn.pth, its legacy form, ONNX and safetensors', async () => {
    const logits = await loadLogits(fixturePath('bn.pth'), config);
    for (const name of ['bn-legacy.pth', 'bn.onnx']) expect(await loadLogits(fixturePath(name), config)).toBe(logits);
    expect(await loadLogits(await safetensorsOf('bn.pth', 'lesson'), config)).toBe(logits);
  });

  test("the logits are PyTorch's, and nearly the same with batch norm folded by the exporter", async () => {
    for (const name of ['bn.pth', 'folded.onnx']) {
      using model = await VGGNet.load(fixturePath(name), OPTIONS);
      expect(model.config.batchNorm).toBe(name === 'bn.pth');
      // Folding rounds every weight once more: 2^-24 of sums of about 1 through six layers.
      expectClose((await model.forward(x)).data, expected.bn, { atol: 1e-5, rtol: 1e-5, what: name });
    }
  });
});

describe('views of storages', () => {
  const views = fixtureJson<Record<string, { shape: number[]; values: number[] }>>('views.json');
  const want = Object.fromEntries(
    Object.entries(views).map(([k, { values }]) => [k, bitsOf(new Float32Array(values))]),
  );
  // A tensor without values gives no chunk.
  delete want.empty;

  test.each(['views.pth', 'views-legacy.pth'])('%s: strided, shared, and of every dtype', async (name) => {
    const bytes = fixture(name);
    const source = await openWeights(fixturePath(name));
    const shapes = Object.fromEntries(source.entries.map((entry) => [entry.name, entry.shape]));
    expect(shapes).toMatchObject(Object.fromEntries(Object.entries(views).map(([k, { shape }]) => [k, shape])));
    expect(shapes).toMatchObject({ count: [], bits: [2] });
    expect(bitsOfAll(await floatsOf(source))).toEqual(want);
    for (const part of [1, 13, 4096]) expect(bitsOfAll(await readFloats(streamOf(bytes, part)))).toEqual(want);
    const some = await openWeights(streamOf(bytes));
    const names: string[] = [];
    for await (const chunk of some.chunks(new Set(['column', 'half']))) names.push(chunk.name);
    expect(names.sort()).toEqual(['column', 'half']);
  });

  test('an integer is refused as a weight, and passed over as a count', async () => {
    const source = await openWeights(fixturePath('views.pth'));
    const read = source.chunks(new Set(['bits']))[Symbol.asyncIterator]();
    await expect(read.next()).rejects.toMatchObject({ code: 'INVALID_DTYPE', message: /'bits'.*got BOOL/ });
    const counts = (await openWeights(fixture('bn.pth'))).entries.filter((entry) => entry.dtype === 'I64');
    expect(counts.map((entry) => entry.name)).toContain('features.1.num_batches_tracked');
  });
});

const ALL = ['plain.pth', 'plain-legacy.pth', 'plain.onnx', 'plain.npz', 'fortran.npz'];

test('progress ends with the size of the file', async () => {
  for (const name of ALL) {
    const bytes = fixture(name);
    const last: unknown[] = [];
    for (const input of [bytes, streamOf(bytes, 500)]) {
      let seen: unknown;
      const onProgress = (progress: unknown): void => {
        seen = progress;
      };
      using model = await VGGNet.load(input, { ...OPTIONS, onProgress });
      expect(model.config).toMatchObject(PLAIN);
      last.push(seen);
    }
    expect(last, name).toEqual([{ loaded: bytes.length, total: bytes.length }, { loaded: bytes.length }]);
  }
});

describe('a signal', () => {
  test.each(ALL)('stops %s while it is opened and while it is read', async (name) => {
    const bytes = fixture(name);
    // Gives the first part, and then nothing more.
    const opening = new AbortController();
    const stalled = (): ReadableStream<Uint8Array> => {
      let given = 0;
      return new ReadableStream(
        {
          pull(stream) {
            if (given++ === 0) stream.enqueue(bytes.slice(0, 100));
            else return new Promise(() => {});
          },
        },
        { highWaterMark: 0 },
      );
    };
    const pending = openWeights(stalled(), { signal: opening.signal });
    setTimeout(() => opening.abort(), 20);
    await expect(pending).rejects.toMatchObject({ code: 'ABORTED' });
    const reading = new AbortController();
    const source = await openWeights(fixturePath(name));
    const names = source.entries.map((entry) => entry.name);
    const read = async (): Promise<void> => {
      for await (const _ of source.chunks(new Set(names), reading.signal)) reading.abort();
    };
    await expect(read()).rejects.toMatchObject({ code: 'ABORTED' });
  });
});

describe('files are closed', () => {
  /** Descriptors of this process that are of the file. */
  async function openOf(path: string): Promise<number> {
    const targets = (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => ''));
    return (await Promise.all(targets)).filter((target) => target === path).length;
  }

  test.runIf(process.platform === 'linux')('after a load, an error, a refusal, and when a loop is left', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'vggnet-formats-'));
    try {
      for (const name of ALL) {
        const path = join(folder, name);
        await writeFile(path, fixture(name));
        const held = await openWeights(path);
        expect(await openOf(path)).toBe(1);
        await held.close();
        expect(await openOf(path)).toBe(0);
        for await (const _ of (await openWeights(path)).chunks(
          new Set(['features.0.weight', 'module.features.0.weight'].slice(...(name === 'fortran.npz' ? [1] : [0, 1]))),
        ))
          break;
        expect(await openOf(path)).toBe(0);
        using model = await VGGNet.load(path, OPTIONS);
        expect(await openOf(path)).toBe(0);
        await expect(model.loadWeights(path, { strict: true, seed: -1 })).rejects.toMatchObject({
          name: 'VGGNetError',
        });
        await expect(VGGNet.create([3], { ...OPTIONS, weights: path })).rejects.toMatchObject({
          code: 'WEIGHTS_MISMATCH',
        });
        expect(await openOf(path)).toBe(0);
        await writeFile(path, fixture(name).slice(0, -200));
        await expect(VGGNet.load(path, OPTIONS)).rejects.toMatchObject({ code: 'INVALID_WEIGHTS_FILE' });
        expect(await openOf(path)).toBe(0);
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });
});
