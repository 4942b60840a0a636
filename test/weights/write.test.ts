import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { Tensor } from '../../src/tensor.js';
import { openWeights } from '../../src/weights/open.js';
import { saveFile } from '../../src/weights/save-file.js';
import { saveSafetensors, writeSafetensors } from '../../src/weights/write.js';
import { readAll } from './collect.js';
import { streamOf } from './rawfile.js';

const folder = mkdtempSync(join(tmpdir(), 'vggnet-write-'));
afterAll(() => rmSync(folder, { recursive: true }));

const bytesOf = async (stream: ReadableStream<Uint8Array>): Promise<Uint8Array> =>
  new Uint8Array(await new Response(stream).arrayBuffer());

describe('saveSafetensors', () => {
  test('makes the file that the format describes', () => {
    const file = saveSafetensors({ a: new Tensor(new Float32Array([1, -2]), [2]) }, { metadata: { k: 'v' } });
    const header = '{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}';
    const length = new DataView(file.buffer).getBigUint64(0, true);
    expect(Number(length) % 8).toBe(0);
    expect(new TextDecoder().decode(file.subarray(8, 8 + Number(length)))).toBe(header.padEnd(Number(length)));
    expect([...new Float32Array(file.buffer, 8 + Number(length))]).toEqual([1, -2]);
    expect(file.length).toBe(8 + Number(length) + 8);
  });

  test('counts of batches are I64 scalars, first and aligned', async () => {
    const file = saveSafetensors(
      { a: Tensor.zeros([3]), 'bn.num_batches_tracked': new Tensor(new Float32Array([70_000]), []) },
      { dtype: 'F16' },
    );
    const { entries } = await openWeights(file);
    expect(entries).toEqual([
      { name: 'bn.num_batches_tracked', dtype: 'I64', shape: [], begin: 0, end: 8 },
      { name: 'a', dtype: 'F16', shape: [3], begin: 8, end: 14 },
    ]);
    expect(new DataView(file.buffer, file.length - 14).getBigInt64(0, true)).toBe(70_000n);
  });

  test('what is written is read', async () => {
    const name = fc.string({ unit: 'binary', minLength: 1, maxLength: 12 }).filter((text) => text !== '__proto__');
    const shape = fc.array(fc.nat(4), { maxLength: 4 });
    const values = fc.infiniteStream(fc.float());
    const text = fc.string({ unit: 'binary' });
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(name, shape), { selector: ([key]) => key, maxLength: 5 }),
        values,
        fc.dictionary(text, text),
        async (list, stream, metadata) => {
          const tensors = new Map(
            list.map(([key, sizes]) => {
              const size = sizes.reduce((a, b) => a * b, 1);
              return [
                key,
                new Tensor(
                  Float32Array.from({ length: size }, () => stream.next().value),
                  sizes,
                ),
              ];
            }),
          );
          const source = await openWeights(saveSafetensors(tensors, { metadata }));
          expect({ ...source.metadata }).toEqual({ ...metadata });
          expect(source.entries.map((entry) => [entry.name, entry.shape])).toEqual(
            [...tensors].map(([key, tensor]) => [key, tensor.shape]).sort(emptyFirst(source.entries)),
          );
          const all = await readAll(source);
          for (const [key, tensor] of tensors) expect(all.get(key) ?? new Float32Array(0)).toEqual(tensor.data);
        },
      ),
      { numRuns: 300 },
    );
  });

  test.each<[string, () => unknown, string]>([
    ['an empty name', () => saveSafetensors({ '': Tensor.zeros([1]) }), 'INVALID_ARGUMENT'],
    ['__proto__', () => saveSafetensors(new Map([['__proto__', Tensor.zeros([1])]])), 'INVALID_ARGUMENT'],
    ['__metadata__', () => saveSafetensors({ __metadata__: Tensor.zeros([1]) }), 'INVALID_ARGUMENT'],
    ['half a surrogate pair', () => saveSafetensors({ '\ud800': Tensor.zeros([1]) }), 'INVALID_ARGUMENT'],
    ['no tensor', () => saveSafetensors({ a: [1] as unknown as Tensor }), 'INVALID_ARGUMENT'],
    ['another dtype', () => saveSafetensors({}, { dtype: 'F64' as 'F32' }), 'INVALID_ARGUMENT'],
    [
      'metadata that is no text',
      () => saveSafetensors({}, { metadata: { a: 1 as unknown as string } }),
      'INVALID_ARGUMENT',
    ],
    ['metadata that is no Unicode', () => saveSafetensors({}, { metadata: { a: '\udfff' } }), 'INVALID_ARGUMENT'],
    [
      'a fractional count',
      () => saveSafetensors({ num_batches_tracked: new Tensor(new Float32Array([0.5]), []) }),
      'INVALID_ARGUMENT',
    ],
    [
      'a name twice',
      () =>
        writeSafetensors(
          [
            { name: 'a', shape: [] },
            { name: 'a', shape: [] },
          ],
          () => new Float32Array(1),
        ),
      'INVALID_ARGUMENT',
    ],
    ['a bad shape', () => writeSafetensors([{ name: 'a', shape: [-1] }], () => new Float32Array(1)), 'INVALID_SHAPE'],
  ])('%s is refused', (_, call, code) => {
    expect(call).toThrow(expect.objectContaining({ name: 'VGGNetError', code }));
  });

  test('a detached tensor is refused', () => {
    const tensor = Tensor.zeros([4]);
    structuredClone(tensor.data.buffer, { transfer: [tensor.data.buffer as ArrayBuffer] });
    expect(() => saveSafetensors({ a: tensor })).toThrow(expect.objectContaining({ code: 'INVALID_SHAPE' }));
  });
});

/** Entries of no bytes sort before the tensor at the same place; names keep the order in which they came. */
function emptyFirst(entries: readonly { name: string }[]) {
  const order = new Map(entries.map((entry, i) => [entry.name, i]));
  return (a: readonly unknown[], b: readonly unknown[]): number =>
    (order.get(a[0] as string) ?? -1) - (order.get(b[0] as string) ?? -1);
}

describe('writeSafetensors', () => {
  const big = Tensor.randn([2 ** 20 + 3], { seed: 1 });

  test('streams the bytes of saveSafetensors, one tensor at a time', async () => {
    const tensors = {
      x: big,
      y: Tensor.randn([5], { seed: 2 }),
      'b.num_batches_tracked': new Tensor(new Float32Array(1), []),
    };
    for (const dtype of ['F32', 'F16'] as const) {
      const asked: string[] = [];
      const entries = Object.entries(tensors).map(([name, { shape }]) => ({ name, shape }));
      const stream = writeSafetensors(
        entries,
        (name) => {
          asked.push(name);
          return Promise.resolve(tensors[name as keyof typeof tensors].data);
        },
        { dtype },
      );
      await new Promise((resolve) => setTimeout(resolve, 0));
      expect(asked).toEqual([]);
      expect(Buffer.compare(await bytesOf(stream), saveSafetensors(tensors, { dtype }))).toBe(0);
      expect(asked).toEqual(['b.num_batches_tracked', 'x', 'y']);
    }
  });

  test('its chunks are copies of at most 4 MiB', async () => {
    const before = big.data.slice();
    const lengths: number[] = [];
    for await (const chunk of writeSafetensors([{ name: 'a', shape: big.shape }], () => big.data)) {
      lengths.push(chunk.length);
      chunk.fill(1);
    }
    expect(lengths.slice(1)).toEqual([2 ** 22, 12]);
    expect(Buffer.compare(new Uint8Array(big.data.buffer), new Uint8Array(before.buffer))).toBe(0);
  });

  test('fails with a wrong number of values, the error of read, and the signal', async () => {
    const entries = [{ name: 'a', shape: [2] }];
    await expect(bytesOf(writeSafetensors(entries, () => new Float32Array(3)))).rejects.toMatchObject({
      code: 'INVALID_SHAPE',
      message: "'a': shape [2] needs 2 values, got 3",
    });
    await expect(bytesOf(writeSafetensors(entries, () => Promise.reject(new RangeError('mine'))))).rejects.toThrow(
      RangeError,
    );
    const signal = AbortSignal.abort();
    await expect(bytesOf(writeSafetensors(entries, () => new Float32Array(2), { signal }))).rejects.toMatchObject({
      code: 'ABORTED',
    });
  });
});

describe('saveFile', () => {
  const file = saveSafetensors({ a: Tensor.randn([300]) });

  test('writes, and takes the place of an older file or of what a link names', async () => {
    const path = join(folder, 'a.safetensors');
    const link = join(folder, 'link');
    symlinkSync(path, link);
    expect(await saveFile(path, streamOf(file, 100))).toBe(file.length);
    expect(new Uint8Array(readFileSync(path))).toEqual(file);
    writeFileSync(path, 'old');
    expect(await saveFile(link, streamOf(file))).toBe(file.length);
    expect(new Uint8Array(readFileSync(path))).toEqual(file);
    expect(readdirSync(folder).sort()).toEqual(['a.safetensors', 'link']);
  });

  test('leaves the old file and nothing else after an error', async () => {
    const path = join(folder, 'kept');
    writeFileSync(path, 'old');
    const failing = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new Uint8Array(10)),
      pull: (controller) => controller.error(new RangeError('mine')),
    });
    await expect(saveFile(path, failing)).rejects.toThrow(RangeError);
    const stream = streamOf(file);
    await expect(saveFile(path, stream, { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(stream.cancelled).toBe(true);
    const stuck = new ReadableStream<Uint8Array>({ pull: () => new Promise(() => {}) });
    await expect(saveFile(path, stuck, { signal: AbortSignal.timeout(30) })).rejects.toMatchObject({ code: 'ABORTED' });
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(folder).filter((name) => name.includes('partial'))).toEqual([]);
  });

  test('a folder, a folder that is not there and a locked stream are refused', async () => {
    const none = join(folder, 'none', 'a');
    await expect(saveFile(folder, streamOf(file))).rejects.toMatchObject({ code: 'IO' });
    await expect(saveFile(none, streamOf(file))).rejects.toMatchObject({ code: 'IO' });
    await expect(saveFile('/dev/null', streamOf(file))).rejects.toMatchObject({ code: 'IO' });
    expect(existsSync(none)).toBe(false);
    const locked = streamOf(file);
    locked.getReader();
    await expect(saveFile(join(folder, 'x'), locked)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});
