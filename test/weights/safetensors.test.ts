import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VGGNetError } from '../../src/errors.js';
import { Tensor } from '../../src/tensor.js';
import type { WeightsInput } from '../../src/weights/bytes/bytes.js';
import { openWeights } from '../../src/weights/open.js';
import { saveSafetensors } from '../../src/weights/write.js';
import { stopwatch } from '../support/stopwatch.js';
import { readAll } from './collect.js';
import { f32, rawFile, streamOf } from './rawfile.js';

const A = f32([2, 3], 0, 24);
const B = f32([1], 24, 28);

/** Opens and reads all; the error of either. */
async function errorOf(input: WeightsInput): Promise<VGGNetError> {
  try {
    await readAll(await openWeights(input));
  } catch (error) {
    if (error instanceof VGGNetError) return error;
    throw error;
  }
  throw new Error('it was read');
}

async function expectInvalid(bytes: Uint8Array<ArrayBuffer>, message: RegExp): Promise<void> {
  // From a stream the same is wrong, though it may show later.
  for (const input of [bytes, new Blob([bytes]), streamOf(bytes)]) {
    const error = await errorOf(input);
    expect(error).toMatchObject({ code: 'INVALID_WEIGHTS_FILE' });
    if (input === bytes) expect(error.message).toMatch(message);
  }
}

describe('a good file', () => {
  test('entries are in the order of their bytes, whatever the order of names', async () => {
    const values = new Uint8Array(new Float32Array([1, 2, 3, 4, 5, 6, 7]).buffer);
    const source = await openWeights(rawFile({ b: B, __metadata__: { format: 'pt' }, a: A }, values));
    expect(source.entries.map(({ name, shape, dtype }) => ({ name, shape, dtype }))).toEqual([
      { name: 'a', shape: [2, 3], dtype: 'F32' },
      { name: 'b', shape: [1], dtype: 'F32' },
    ]);
    expect(source.metadata).toEqual({ format: 'pt' });
    const all = await readAll(source);
    expect([...all]).toEqual([
      ['a', new Float32Array([1, 2, 3, 4, 5, 6])],
      ['b', new Float32Array([7])],
    ]);
  });

  test('scalars, empty tensors and no tensors', async () => {
    const file = rawFile({ none: f32([0, 4], 0, 0), one: f32([], 0, 4), last: f32([0], 4, 4) }, 4);
    const source = await openWeights(file);
    expect(source.entries.map((entry) => entry.name)).toEqual(['none', 'one', 'last']);
    expect((await readAll(source)).get('one')).toEqual(new Float32Array([0]));
    expect((await openWeights(rawFile('{}      '))).entries).toEqual([]);
    expect((await openWeights(rawFile('{"__metadata__":null}'))).metadata).toEqual({});
  });

  test('only what is wanted is given', async () => {
    const file = rawFile({ a: A, b: B }, new Uint8Array(new Float32Array([1, 2, 3, 4, 5, 6, 7]).buffer));
    for (const input of [file, streamOf(file)]) {
      const source = await openWeights(input);
      const names: string[] = [];
      for await (const chunk of source.chunks(new Set(['b']))) names.push(`${chunk.name} ${chunk.data}`);
      expect(names).toEqual(['b 7']);
    }
    const source = await openWeights(file);
    await expect(
      source
        .chunks(new Set(['c']))
        [Symbol.asyncIterator]()
        .next(),
    ).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  });

  test('a chunk is of at most 1 MiB', async () => {
    const count = 2 ** 18 + 5;
    const values = Float32Array.from({ length: count }, (_, i) => i);
    const file = saveSafetensors({ a: new Tensor(values, [count]) });
    for (const input of [file, new Blob([file]), streamOf(file, 100_000)]) {
      const source = await openWeights(input);
      const lengths: number[] = [];
      for await (const { offset, data } of source.chunks(new Set(['a']))) {
        lengths.push(data.length);
        expect(data[3]).toBe(offset + 3);
        data.fill(-1);
      }
      expect(lengths).toEqual([2 ** 18, 5]);
    }
    expect(new Float32Array(file.buffer, file.length - 4 * count, 1)[0]).toBe(0);
  });

  test('is read once, and not after close', async () => {
    const source = await openWeights(rawFile({ a: A }, 24));
    await readAll(source);
    await expect(readAll(source)).rejects.toMatchObject({ code: 'DISPOSED' });
    await source.close();
    const stream = streamOf(rawFile({ a: A }, 24));
    await (await openWeights(stream)).close();
    expect(stream.cancelled).toBe(true);
  });

  test('leaving the loop closes the source', async () => {
    const stream = streamOf(rawFile({ a: A, b: f32([100], 24, 424) }, 424), 30);
    for await (const chunk of (await openWeights(stream)).chunks(new Set(['a', 'b']))) {
      expect(chunk.name).toBe('a');
      break;
    }
    expect(stream.cancelled).toBe(true);
  });
});

describe('a bad header', () => {
  const long = new Uint8Array(100);
  new DataView(long.buffer).setBigUint64(0, 90_000_000n, true);
  const over = new Uint8Array(100);
  new DataView(over.buffer).setBigUint64(0, 100_000_001n, true);
  const huge = new Uint8Array(100);
  new DataView(huge.buffer).setBigUint64(0, 2n ** 64n - 1n, true);

  test.each<[string, Uint8Array<ArrayBuffer>, RegExp]>([
    ['no bytes', new Uint8Array(0), /at least 8 bytes, got 0/],
    ['7 bytes', new Uint8Array(7), /at least 8 bytes, got 7/],
    ['length 0', new Uint8Array(8), /header of 0 bytes/],
    ['over 100 MB', over, /header of 100000001 bytes, over the limit/],
    ['2^64 - 1', huge, /header of 18446744073709551615 bytes, over the limit/],
    ['past the end', long, /header of 90000000 bytes goes past the end of the file, at 100/],
    ['not UTF-8', rawFile(new Uint8Array([0x7b, 0xff, 0x7d])), /not UTF-8/],
    ['a byte order mark', rawFile('\ufeff{}'), /must start with '{'/],
    ['a leading space', rawFile(' {}'), /must start with '{', got ' '/],
    ['an array', rawFile([]), /must start with '{', got '\['/],
    ['not JSON', rawFile('{"a":}'), /not JSON/],
    ['text after it', rawFile('{}}'), /not JSON/],
    ['a zip file', new Uint8Array([0x50, 0x4b, 3, 4, 20, 0, 8, 8, 0]), /zip archive that does not begin as one/],
    ['a pickle', new Uint8Array([0x80, 2, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46]), /within the pickle/],
    ['a Git LFS pointer', new TextEncoder().encode('version https://git-lfs.github.com/spec/v1'), /Git LFS pointer/],
    ['a web page', new TextEncoder().encode('<!DOCTYPE html><html></html>'), /web page/],
    ['a name twice', rawFile('{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":{}}', 4), /'a' comes twice/],
    [
      'a name twice, escaped',
      rawFile('{"\\u0061\\"":{"dtype":"F32","shape":[],"data_offsets":[0,4]} , "a\\"" : {}}', 4),
      /'a\\"' comes twice/,
    ],
    ['a field twice', rawFile('{"a":{"dtype":"F32","shape":[2],"shape":[],"data_offsets":[0,4]}}', 4), /'shape' comes/],
    [
      '__proto__',
      rawFile('{"__proto__":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}', 4),
      /'__proto__'.*not allowed/,
    ],
    ['a number', rawFile({ a: 1 }), /tensor 'a' must be an object/],
    ['null', rawFile({ a: null }), /tensor 'a' must be an object/],
    ['no dtype', rawFile({ a: { shape: [], data_offsets: [0, 4] } }, 4), /tensor 'a' has an unknown dtype/],
    ['an unknown dtype', rawFile({ a: { ...A, dtype: 'F31' } }, 24), /tensor 'a' has an unknown dtype '\\"F31\\"'/],
    ['a fractional size', rawFile({ a: f32([1.5], 0, 6) }, 6), /tensor 'a': its shape/],
    ['a negative size', rawFile({ a: f32([-1, -6], 0, 24) }, 24), /tensor 'a': its shape/],
    ['a size as text', rawFile('{"a":{"dtype":"F32","shape":["6"],"data_offsets":[0,24]}}', 24), /its shape/],
    [
      'a size over 2^53',
      rawFile('{"a":{"dtype":"F32","shape":[9007199254740993,0],"data_offsets":[0,0]}}'),
      /its shape/,
    ],
    ['no shape', rawFile({ a: { dtype: 'F32', data_offsets: [0, 4] } }, 4), /tensor 'a': its shape/],
    ['an overflow', rawFile({ a: f32([2 ** 30, 2 ** 30, 0], 0, 0) }), /tensor 'a': its shape \[.*\] has over 2\^53/],
    ['an overflow of bits', rawFile({ a: f32([2 ** 52], 0, 2 ** 53 - 1) }), /has over 2\^53 bits/],
    ['one offset', rawFile({ a: { ...A, data_offsets: [0] } }, 24), /data_offsets must be two integers/],
    ['a fractional offset', rawFile({ a: { ...A, data_offsets: [0, 24.5] } }, 24), /data_offsets must be two integers/],
    ['offsets backwards', rawFile({ a: f32([2, 3], 24, 0) }, 24), /\[24, 0\] go backwards/],
    ['too few bytes', rawFile({ a: f32([2, 3], 0, 20) }, 20), /shape \[2, 3\] of F32 needs 24 bytes,.* span 20/],
    ['too many bytes', rawFile({ a: f32([2, 3], 0, 28) }, 28), /needs 24 bytes,.* span 28/],
    ['an overlap', rawFile({ a: A, b: f32([1], 20, 24) }, 24), /tensor 'b' starts at byte 20 and overlaps 'a'/],
    ['the same bytes twice', rawFile({ a: A, b: A }, 24), /tensor 'b' starts at byte 0 and overlaps 'a'/],
    ['a hole', rawFile({ a: A, b: f32([1], 28, 32) }, 32), /tensor 'b'.* bytes 24 to 28 belong to no tensor/],
    ['a hole at the start', rawFile({ a: f32([1], 4, 8) }, 8), /bytes 0 to 4 belong to no tensor/],
    ['offsets out of the file', rawFile({ a: A, b: B }, 27), /tensor 'b' ends at byte \d+, past the end of the file/],
    ['bytes after the last tensor', rawFile({ a: A }, 25), /1 bytes follow the last tensor/],
    ['metadata that is no text', rawFile({ __metadata__: { epoch: 3 } }), /__metadata__: 'epoch' must be a string/],
    ['metadata as a list', rawFile({ __metadata__: ['x'] }), /__metadata__ must be an object/],
  ])('%s', async (_, bytes, message) => {
    const elapsed = stopwatch();
    await expectInvalid(bytes, message);
    expect(elapsed()).toBeLessThan(1000);
  });

  test('a stream that ends early says where', async () => {
    const file = rawFile({ a: A, b: B }, 28);
    const dataStart = file.length - 28;
    for (const [end, message] of [
      [dataStart - 3, `ends at byte ${dataStart - 3}, within its header`],
      [dataStart + 5, `ends early at byte ${dataStart + 5}, within tensor 'a'`],
      [dataStart + 24, `ends early at byte ${dataStart + 24}, within tensor 'b'`],
    ] as const) {
      expect((await errorOf(streamOf(file.slice(0, end)))).message).toContain(message);
    }
    const more = new Uint8Array(file.length + 1);
    more.set(file);
    expect((await errorOf(streamOf(more))).message).toContain('bytes follow the last tensor');
  });

  test('a false header length of a stream costs no memory', async () => {
    const before = process.memoryUsage().arrayBuffers;
    await errorOf(streamOf(long));
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20_000_000);
  });

  test('__proto__ in metadata changes nothing', async () => {
    const source = await openWeights(rawFile('{"__metadata__":{"__proto__":"x"}}'));
    expect(Object.keys(source.metadata)).toEqual(['__proto__']);
    expect(({} as { x?: string }).x).toBeUndefined();
    expect(Object.getPrototypeOf({})).toBe(Object.prototype);
  });

  test.each<[string, () => string, RegExp]>([
    ['deep', () => `{"a":${'['.repeat(5e6)}${']'.repeat(5e6)}}`, /nested over 128 deep/],
    ['of millions of tensors', () => `{"a":{}${',"b":{}'.repeat(2e6)}}`, /lists over 262144 values/],
    ['of an endless string', () => `{"a":"${'\\"'.repeat(5e6)}`, /not JSON/],
    ['of a long name', () => `{"${'x'.repeat(1e7)}":1}`, /tensor 'x{117}…' must be an object/],
  ])('a header %s ends quickly', async (_, text, message) => {
    const file = rawFile(text());
    const elapsed = stopwatch();
    const error = await errorOf(file);
    expect(elapsed()).toBeLessThan(1000);
    expect(error.code).toBe('INVALID_WEIGHTS_FILE');
    expect(error.message).toMatch(message);
    expect(error.message.length).toBeLessThan(500);
  });

  test('a header nested 100 deep is read, where it does not matter', async () => {
    const record = JSON.stringify(A).slice(0, -1);
    const file = rawFile(`{"a":${record},"more":${'['.repeat(100)}${']'.repeat(100)}}}`, 24);
    expect((await openWeights(file)).entries.map((entry) => entry.name)).toEqual(['a']);
  });

  test('a stream is cancelled when its header is refused', async () => {
    const stream = streamOf(rawFile({ a: 1 }, 1000));
    expect((await errorOf(stream)).code).toBe('INVALID_WEIGHTS_FILE');
    expect(stream.cancelled).toBe(true);
  });
});

describe('dtypes', () => {
  test.each(['BOOL', 'U8', 'I8', 'I32', 'U64', 'I64', 'F8_E4M3', 'C64'])('%s is refused by name', async (dtype) => {
    const size = { BOOL: 1, U8: 1, I8: 1, F8_E4M3: 1, I32: 4 }[dtype] ?? 8;
    const file = rawFile({ f: f32([1], 0, 4), q: { dtype, shape: [1], data_offsets: [4, 4 + size] } }, 4 + size);
    expect(await errorOf(file)).toMatchObject({
      code: 'INVALID_DTYPE',
      message: `Tensor 'q': expected F32, F16, BF16 or F64, got ${dtype}`,
    });
    const source = await openWeights(file);
    const chunks: string[] = [];
    for await (const chunk of source.chunks(new Set(['f']))) chunks.push(chunk.name);
    expect(chunks).toEqual(['f']);
  });

  test('num_batches_tracked is passed over', async () => {
    const file = rawFile(
      { 'features.1.num_batches_tracked': { dtype: 'I64', shape: [], data_offsets: [0, 8] }, w: f32([1], 8, 12) },
      12,
    );
    expect([...(await readAll(await openWeights(file))).keys()]).toEqual(['w']);
  });
});

describe('damaged files', () => {
  const good = saveSafetensors(
    { 'features.0.weight': Tensor.randn([2, 1, 3, 3]), 'x.num_batches_tracked': new Tensor(new Float32Array(1), []) },
    { metadata: { note: 'é' } },
  );

  test('any change of bytes gives a source or a typed error', async () => {
    const change = fc.record({ at: fc.nat(good.length - 1), value: fc.nat(255) });
    const lengths = fc.option(fc.nat(good.length + 20), { freq: 3 });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { maxLength: 4 }), lengths, fc.boolean(), async (changes, length, stream) => {
        const bytes = new Uint8Array(length ?? good.length);
        bytes.set(good.subarray(0, bytes.length));
        for (const { at, value } of changes) if (at < bytes.length) bytes[at] = value;
        try {
          const source = await openWeights(stream ? streamOf(bytes, 31) : bytes);
          const all = await readAll(source);
          for (const { name, shape } of source.entries) {
            if (all.has(name)) expect(all.get(name)?.length).toBe(shape.reduce((a, b) => a * b, 1));
          }
        } catch (error) {
          if (!(error instanceof VGGNetError)) throw error;
          expect(['INVALID_WEIGHTS_FILE', 'INVALID_DTYPE']).toContain(error.code);
        }
      }),
      { numRuns: 3000 },
    );
  });
});
