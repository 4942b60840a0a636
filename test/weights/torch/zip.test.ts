import { describe, expect, test } from 'vitest';
import { VGGNetError } from '../../../src/errors.js';
import { openBytes, type WeightsInput } from '../../../src/weights/bytes/bytes.js';
import { ByteCursor } from '../../../src/weights/bytes/cursor.js';
import { readDirectory, seekEntry } from '../../../src/weights/bytes/zip.js';
import { openWeights } from '../../../src/weights/open.js';
import { bitsOfAll, fixture, floatsOf, readFloats } from '../fixtures.js';
import { floats, ordered, pickle, storage, tensor, text } from '../pickle-writer.js';
import { streamOf } from '../rawfile.js';
import { expectBad } from '../refused.js';
import { concat, makeZip, type ZipOptions, type ZipPart } from '../zip-writer.js';

const PICKLE = pickle(
  ordered([text('a'), tensor(storage('0', 3), [3], [1])], [text('b'), tensor(storage('1', 2), [2], [1])]),
);
const A: ZipPart = { name: 'net/data/0', data: floats(1, 2, 3) };
const B: ZipPart = { name: 'net/data/1', data: floats(4, 5) };
const P: ZipPart = { name: 'net/data.pkl', data: PICKLE };
const VERSION: ZipPart = { name: 'net/version', data: '3\n' };
const values = { a: [1, 2, 3], b: [4, 5] };

async function expectRead(bytes: Uint8Array<ArrayBuffer>, streamed = true): Promise<void> {
  const read = async (input: Parameters<typeof readFloats>[0]): Promise<object> =>
    Object.fromEntries([...(await readFloats(input))].map(([name, data]) => [name, [...data]]));
  expect(await read(bytes)).toEqual(values);
  if (!streamed) return;
  for (const part of [1, 11, 5000]) expect(await read(streamOf(bytes, part))).toEqual(values);
}

/** The entries of an archive, to be written anew. */
async function entriesOf(name: string): Promise<ZipPart[]> {
  const cursor = new ByteCursor(await openBytes(fixture(name)));
  const parts: ZipPart[] = [];
  for (const entry of await readDirectory(cursor)) {
    await seekEntry(cursor, entry);
    parts.push({ name: entry.name, data: await cursor.take(entry.size, 'an entry') });
  }
  return parts;
}

describe('layouts', () => {
  test.each<[string, ZipPart[], ZipOptions?]>([
    ['sizes in the headers', [P, A, B, VERSION]],
    ['sizes behind the data, as PyTorch writes', [P, A, B, VERSION].map((part) => ({ ...part, sizes: 'behind' }))],
    ['and in 64 bits', [P, A, B, VERSION].map((part) => ({ ...part, sizes: 'behind64' }))],
    ['zip64', [P, A, B, VERSION].map((part) => ({ ...part, sizes: 'zip64' })), { zip64: true }],
    ['aligned data', [P, A, B, VERSION].map((part) => ({ ...part, sizes: 'behind', align: 64 }))],
    ['storages in another order', [P, VERSION, B, A]],
    ['a comment', [P, A, B], { comment: 'PK\x05\x06 is no end record here' }],
    ['no folder', [P, A, B].map((part) => ({ ...part, name: part.name.slice(4) }))],
    [
      'what PyTorch 2 adds',
      [
        P,
        { name: 'net/.format_version', data: '1' },
        { name: 'net/.storage_alignment', data: '64' },
        { name: 'net/byteorder', data: 'little' },
        A,
        B,
        VERSION,
        { name: 'net/.data/serialization_id', data: '0636067515773384147205762365612214740013' },
      ].map((part) => ({ ...part, sizes: 'behind', align: 64 })),
    ],
  ])('%s', async (_, parts, options) => {
    await expectRead(makeZip(parts, options));
  });

  test('an archive packed anew, with the pickle last, is read where it can be seeked', async () => {
    const bytes = makeZip([{ name: 'net/', data: '' }, A, B, P]);
    await expectRead(bytes, false);
    await expect(openWeights(streamOf(bytes))).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS_FILE',
      message: /must begin with its data.pkl, got 'net\/'; read it from a file/,
    });
  });

  test('a large pickle is read in growing parts', async () => {
    const names = Array.from({ length: 3000 }, (_, i) => `${i}`);
    const object = ordered(...names.map((name) => [text(name), tensor(storage('0', 3), [3], [1])] as const));
    const bytes = makeZip([{ ...P, data: pickle(object), sizes: 'behind' }, A]);
    expect((await readFloats(bytes)).size).toBe(3000);
    expect((await readFloats(streamOf(bytes, 10_000))).size).toBe(3000);
  });

  test("PyTorch's own, written anew", async () => {
    const entries = await entriesOf('bn.pth');
    const want = bitsOfAll(await readFloats(fixture('bn.pth')));
    for (const sizes of ['header', 'behind', 'zip64'] as const) {
      const bytes = makeZip(entries.map((part) => ({ ...part, sizes })));
      expect(bitsOfAll(await readFloats(streamOf(bytes, 100)))).toEqual(want);
      expect(bitsOfAll(await readFloats(bytes))).toEqual(want);
    }
  });
});

describe('an archive that is refused', () => {
  const zip = (parts: ZipPart[], options?: ZipOptions): Uint8Array<ArrayBuffer> => makeZip(parts, options);
  const cut = (by: number): Uint8Array<ArrayBuffer> => zip([P, A, B]).slice(0, -by);
  const bomb: ZipPart = { name: 'net/data/1', data: new Uint8Array(10_000_000), deflate: true };
  test.each<[string, Uint8Array<ArrayBuffer>, RegExp, RegExp?]>([
    ['a compressed entry', zip([P, A, { ...B, deflate: true }]), /entry 'net\/data\/1' is compressed \(method 8\)/],
    ['a zip bomb', zip([P, A, bomb]), /entry 'net\/data\/1' is compressed \(method 8\)/],
    ['a compressed pickle', zip([{ ...P, deflate: true }, A, B]), /'net\/data.pkl' is compressed/],
    ['two entries of one name', zip([P, A, B, B]), /two entries are called 'net\/data\/1', the second at byte \d+/],
    [
      'two pickles',
      zip([P, { ...P, name: 'x/data.pkl' }, A, B]),
      /expected one data.pkl in a PyTorch .* got 2/,
      /'x\/data/,
    ],
    ['no pickle', zip([A, B]), /expected one data.pkl in a PyTorch checkpoint, got 0/, /must begin with its data.pkl/],
    [
      'a storage that is not there',
      zip([P, A]),
      /no entry 'net\/data\/1', which the pickle asks for/,
      /storage '1' is miss/,
    ],
    [
      'a storage of another size',
      zip([P, A, { ...B, data: floats(4) }]),
      /entry 'net\/data\/1' has 4 bytes, and the pickle asks for 8/,
    ],
    [
      'a size behind that is another',
      zip([P, A, { ...B, data: floats(4), sizes: 'behind' }]),
      /has 4 bytes, and the pickle asks for 8/,
      /entry 'net\/data\/1' does not end at byte \d+, after 8 bytes/,
    ],
    [
      'big-endian values',
      zip([P, { name: 'net/byteorder', data: 'big' }, A, B]),
      /expected values in 'little' order, got 'big'/,
    ],
    ['TorchScript', zip([P, { name: 'net/constants.pkl', data: '' }, A, B]), /this is a TorchScript program/],
    ['an encrypted entry', zip([P, A, { ...B, lie: { flags: 1 } }]), /entry 'net\/data\/1' is encrypted/],
    [
      'a pickle with a tail',
      zip([{ ...P, data: concat([PICKLE, floats(0)]) }, A, B]),
      /the pickle ends at byte \d+, its entry at/,
    ],
    ['a cut end', cut(5), /no end record: it is cut off, or bytes follow it/],
    ['no directory', cut(150), /no end record/],
    ['a tail', concat([zip([P, A, B]), floats(1)]), /no end record: it is cut off, or bytes follow it/],
    [
      'a gap before the directory',
      zip([P, A, B], { gap: 4, endLie: { offset: 0 } }),
      /must be \d+ bytes from byte 0 to the end record/,
    ],
    ['a false count', zip([P, A, B], { endLie: { count: 4 } }), /has 3 entries, and should have 4/],
    ['a false directory', zip([P, A, B], { endLie: { offset: 7 } }), /central directory must be \d+ bytes from byte 7/],
    [
      'a huge directory',
      zip([P, A, B], { zip64: true, endLie: { size: 2 ** 40 } }),
      /central directory must be 1099511627776/,
    ],
    [
      'an entry at another place',
      zip([P, { ...A, lie: { headerOffset: 5 } }, B]),
      /entry 'net\/data(\/0|.pkl)' at byte \d+ has \d+ bytes and overlaps/,
    ],
    [
      'two entries at one place',
      zip([P, A, { ...B, lie: { headerOffset: 300 } }]),
      /overlaps what begins at|has no header/,
      /overlaps what begins at|lists 'net\/data\/1'/,
    ],
    [
      'an entry past the end',
      zip([P, A, { ...B, lie: { headerOffset: 2 ** 31 } }]),
      /entry 'net\/data\/1' at byte 2147483648 has 8 bytes and overlaps/,
    ],
    [
      'another name in the header',
      zip([P, A, { ...B, localLie: { name: 'net/data/2' } }]),
      /entry 'net\/data\/1' is called 'net\/data\/2' in its header/,
    ],
    [
      'another size in the header',
      zip([P, A, { ...B, localLie: { compressedSize: 4 } }]),
      /'net\/data\/1' has another size or compression in its header/,
    ],
    [
      'another size in the directory',
      zip([P, A, { ...B, lie: { size: 16 }, localLie: { size: 8 } }]),
      /is stored, and has two sizes, 16 and 8/,
      /lists 'net\/data\/1' at byte/,
    ],
    ['an entry that the directory lacks', withoutLast([P, A, B]), /has 3 entries, and should have 2/],
    [
      'Keras 3',
      zip([{ name: 'config.json', data: '{}' }]),
      /of 'config.json' is neither a PyTorch checkpoint nor .npz/,
    ],
    ['an empty archive', zip([]), /a zip archive without entries/],
  ])('%s', async (_, bytes, message, stream) => {
    await expectBad(bytes, message, stream ? { stream } : {});
  });

  /** An end record that counts one entry less. */
  function withoutLast(parts: ZipPart[]): Uint8Array<ArrayBuffer> {
    return makeZip(parts, { endLie: { count: parts.length - 1 } });
  }

  test('a file that ends at any byte is refused', async () => {
    const bytes = zip([P, A, B, VERSION].map((part) => ({ ...part, sizes: 'behind' })));
    for (let end = 0; end < bytes.length; end += 7) await expectBad(bytes.slice(0, end), /./);
  });

  test('a small entry whose end is not to be found costs little', async () => {
    const bytes = zip([P, { name: 'net/x', data: new Uint8Array(200_000), sizes: 'behind' }, A, B]);
    await expectRead(bytes, false);
    await expect(readFloats(streamOf(bytes, 1000))).rejects.toMatchObject({
      code: 'INVALID_WEIGHTS_FILE',
      message: /entry 'net\/x' at byte \d+ has no end within 65536 bytes/,
    });
  });
});

describe('a damaged archive', () => {
  const layouts = (['header', 'behind', 'behind64'] as const).map((sizes) => [
    sizes,
    makeZip([P, A, B, VERSION].map((part) => ({ ...part, sizes, align: 64 }))),
  ]) as [string, Uint8Array<ArrayBuffer>][];
  const inputs = [(bytes: Uint8Array) => bytes.slice(), (bytes: Uint8Array) => streamOf(bytes, 100)];
  const placeOf = (bytes: Uint8Array, part: Uint8Array): number => Buffer.from(bytes).indexOf(part);

  function flipped(bytes: Uint8Array, at: number, bit = 0): Uint8Array {
    const copy = bytes.slice();
    copy[at] = (copy[at] as number) ^ (1 << bit);
    return copy;
  }

  async function valuesOf(input: WeightsInput, verify: boolean): Promise<object> {
    const all = await floatsOf(await openWeights(input, { verify }));
    return Object.fromEntries([...all].map(([name, data]) => [name, [...data]]));
  }

  test.each(layouts)("the pickle's checksum is always compared: sizes in the %s", async (_, bytes) => {
    // Another name, which is as good a pickle.
    const renamed = flipped(bytes, placeOf(bytes, PICKLE) + PICKLE.lastIndexOf('b'.charCodeAt(0), -60), 1);
    for (const input of inputs) {
      await expect(valuesOf(input(renamed), false)).rejects.toMatchObject({
        code: 'INVALID_WEIGHTS_FILE',
        message: expect.stringMatching(/entry 'net\/data.pkl' is damaged: its checksum is 0x\w{8}, and should be 0x/),
      });
    }
  });

  test.each(layouts)('those of storages are compared on request: sizes in the %s', async (_, bytes) => {
    const other = flipped(bytes, placeOf(bytes, B.data as Uint8Array) + 2, 6);
    for (const input of inputs) {
      expect(await valuesOf(input(bytes), true)).toEqual(values);
      expect(await valuesOf(input(other), false)).toEqual({ a: [1, 2, 3], b: [6, 5] });
      await expect(valuesOf(input(other), true)).rejects.toMatchObject({
        code: 'INVALID_WEIGHTS_FILE',
        message: expect.stringMatching(/entry 'net\/data\/1' is damaged/),
      });
    }
  });

  test('checksums that PyTorch was told not to write are not compared', async () => {
    const bytes = makeZip([P, A, B].map((part) => ({ ...part, lie: { crc: 0 } })));
    for (const input of inputs) expect(await valuesOf(input(bytes), true)).toEqual(values);
  });

  test('an entry that ends before the next begins', async () => {
    const end = /ends at byte \d+, and what follows it begins at \d+/;
    await expectBad(makeZip([P, A, B], { gap: 4 }), end, {
      stream: /the entries end at byte \d+, and the central directory begins at/,
    });
    const shorter = { name: 'net/x', data: 'four', lie: { size: 2, compressedSize: 2 } };
    const bytes = makeZip([P, shorter, A, B]);
    // Nobody reads that entry but in a stream, and there the next header is not where it should be.
    await expect(readFloats(streamOf(bytes, 100))).rejects.toMatchObject({ code: 'INVALID_WEIGHTS_FILE' });
    const storage = makeZip([P, A, { ...B, data: floats(4, 5, 6), lie: { size: 8, compressedSize: 8 } }]);
    await expectBad(storage, end, { stream: /./ });
  });

  test.each(layouts)('a flipped bit is an error or changes nothing: sizes in the %s', async (_, bytes) => {
    const dataOf = [A, B].map(({ data }) => [placeOf(bytes, data as Uint8Array), data.length] as const);
    for (const [i, input] of inputs.entries()) {
      let refused = 0;
      for (let at = i; at < bytes.length; at += 3) {
        const isValue = dataOf.some(([start, length]) => at >= start && at < start + length);
        const damaged = flipped(bytes, at, at % 8);
        const result = await valuesOf(input(damaged), isValue).catch((error: unknown) => error);
        if (result instanceof VGGNetError) refused++;
        else expect({ at, result }).toEqual({ at, result: values });
      }
      // Of the rest, nobody looks at the bits: padding, dates and attributes.
      expect(refused).toBeGreaterThan(bytes.length / 3 / 3);
    }
  });

  test.each(layouts)('a flipped bit where something is said is an error: sizes in the %s', async (_, bytes) => {
    const directory = placeOf(bytes, Uint8Array.of(0x50, 0x4b, 1, 2));
    const places = {
      'the first header': [0, 8, 26, 30],
      'the pickle': [0, 1, 100, 200, PICKLE.length - 1].map((at) => placeOf(bytes, PICKLE) + at),
      'the storages': [0, 11].map((at) => placeOf(bytes, A.data as Uint8Array) + at),
      'the directory': [0, 10, 20, 24, 28, 42, 46].map((at) => directory + at),
      'the end': [22, 14, 12, 10, 6].map((at) => bytes.length - at),
    };
    for (const [region, offsets] of Object.entries(places)) {
      for (const at of offsets) {
        const result = await valuesOf(flipped(bytes, at), true).catch((error: unknown) => error);
        expect({ region, at, result }).toMatchObject({ region, at, result: { code: 'INVALID_WEIGHTS_FILE' } });
      }
    }
  });
});

test('a stream that never ends after its entries costs little', async () => {
  const bytes = makeZip([P, A, B]);
  let given = 0;
  const endless = new ReadableStream<Uint8Array>(
    {
      pull(stream) {
        stream.enqueue(given++ === 0 ? bytes : new Uint8Array(2 ** 16));
      },
    },
    { highWaterMark: 0 },
  );
  await expect(readFloats(endless)).rejects.toMatchObject({
    code: 'INVALID_WEIGHTS_FILE',
    message: /over 16777216 bytes follow the entries/,
  });
  expect(given).toBeLessThan(2 ** 9);
});
