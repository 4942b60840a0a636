import { describe, expect, test } from 'vitest';
import { crc32, portableCrc32 } from '../../../src/weights/bytes/crc32.js';
import { openWeights } from '../../../src/weights/open.js';
import { floatsOf, readFloats } from '../fixtures.js';
import { floats } from '../pickle-writer.js';
import { streamOf } from '../rawfile.js';
import { expectBad } from '../refused.js';
import { bytesOfText, concat, makeZip, type ZipPart } from '../zip-writer.js';

const DICT = "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }";

function npy(dict: string, data: Uint8Array, version = 1): Uint8Array {
  const header = bytesOfText(`${dict}\n`);
  const length =
    version === 1 ? [header.length & 255, header.length >> 8] : [header.length & 255, header.length >> 8, 0, 0];
  return concat([Uint8Array.of(0x93), bytesOfText('NUMPY'), Uint8Array.of(version, 0, ...length), header, data]);
}

const one = (
  dict: string,
  data: Uint8Array = floats(1, 2, 3),
  version = 1,
  more: Partial<ZipPart> = {},
): Uint8Array<ArrayBuffer> => makeZip([{ name: 'a.npy', data: npy(dict, data, version), ...more }]);

/** The same values with their highest bytes first. */
function bigEndian(bytes: Uint8Array, width: number): Uint8Array {
  const out = bytes.slice();
  for (let at = 0; at < out.length; at += width) out.subarray(at, at + width).reverse();
  return out;
}

const withDict = (change: string): string => DICT.replace('}', `${change}}`);

describe('arrays', () => {
  const f16 = new Uint8Array(new Uint16Array([0x3c00, 0xc000, 0x7bff]).buffer);
  const f64 = new Uint8Array(new Float64Array([1, 2, 0.1]).buffer);
  test.each<[string, Uint8Array<ArrayBuffer>, number[]]>([
    ['version 1', one(DICT), [1, 2, 3]],
    ['version 2', one(DICT, floats(1, 2, 3), 2), [1, 2, 3]],
    ['version 3', one(DICT, floats(1, 2, 3), 3), [1, 2, 3]],
    ['a shape of Python 2', one(DICT.replace('(3,)', '(3L,)')), [1, 2, 3]],
    ['other spaces and order', one("{'shape':(3, ),'descr':'<f4','fortran_order':False}"), [1, 2, 3]],
    ['a scalar', one(DICT.replace('(3,)', '()'), floats(7)), [7]],
    ['F16', one(DICT.replace('f4', 'f2'), f16), [1, -2, 65504]],
    ['F64', one(DICT.replace('f4', 'f8'), f64), [1, 2, Math.fround(0.1)]],
    ['F16, big-endian', one(DICT.replace('<f4', '>f2'), bigEndian(f16, 2)), [1, -2, 65504]],
    ['F32, big-endian', one(DICT.replace('<', '>'), bigEndian(floats(1, 2, -0.1), 4)), [1, 2, Math.fround(-0.1)]],
    ['F64, big-endian', one(DICT.replace('<f4', '>f8'), bigEndian(f64, 8)), [1, 2, Math.fround(0.1)]],
    [
      'big-endian, columns first and deflated',
      one(
        DICT.replace('<', '>').replace('False', 'True').replace('(3,)', '(2, 3)'),
        bigEndian(floats(1, 2, 3, 4, 5, 6), 4),
        1,
        { deflate: true },
      ),
      [1, 3, 5, 2, 4, 6],
    ],
    [
      'columns first',
      one(DICT.replace('False', 'True').replace('(3,)', '(2, 3)'), floats(1, 2, 3, 4, 5, 6)),
      [1, 3, 5, 2, 4, 6],
    ],
    ['deflated', one(DICT, floats(1, 2, 3), 1, { deflate: true }), [1, 2, 3]],
    ['zip64', one(DICT, floats(1, 2, 3), 1, { sizes: 'zip64' }), [1, 2, 3]],
    ['sizes behind the data', one(DICT, floats(1, 2, 3), 1, { sizes: 'behind', deflate: true }), [1, 2, 3]],
  ])('%s', async (_, bytes, values) => {
    expect([...((await readFloats(bytes)).get('a') as Float32Array)]).toEqual(values);
    expect([...((await readFloats(streamOf(bytes, 9))).get('a') as Float32Array)]).toEqual(values);
  });

  test('a large deflated array comes in chunks, and what is not wanted is passed over', async () => {
    const values = Float32Array.from({ length: 700_001 }, (_, i) => Math.sin(i));
    const dict = DICT.replace('(3,)', '(700001,)');
    const big = npy(dict, new Uint8Array(values.buffer));
    const bytes = makeZip([
      { name: 'a.npy', data: big, deflate: true },
      { name: 'b.npy', data: npy(DICT, floats(1, 2, 3)), deflate: true },
      { name: 'c.npy', data: big },
    ]);
    const source = await openWeights(bytes);
    const lengths: number[] = [];
    let same = true;
    for await (const { data, offset } of source.chunks(new Set(['a', 'c']))) {
      lengths.push(data.length);
      for (let i = 0; i < data.length; i++) same &&= data[i] === values[offset + i];
    }
    expect(same).toBe(true);
    expect(lengths).toEqual([262144, 262144, 175713, 262144, 262144, 175713]);
    // Left in the middle, nothing hangs or fails later.
    const left = await openWeights(bytes);
    for await (const { name } of left.chunks(new Set(['a']))) {
      expect(name).toBe('a');
      break;
    }
  });
});

describe("Keras's names", () => {
  const part = (name: string, shape: string, count: number): ZipPart => ({
    name: `${name}.npy`,
    data: npy(DICT.replace('(3,)', shape), floats(...Array.from({ length: count }, (_, i) => i))),
  });
  const file = (...parts: ZipPart[]): Uint8Array<ArrayBuffer> =>
    makeZip([part('block1_conv1/kernel', '(3, 3, 1, 2)', 18), part('block1_conv1/bias', '(2,)', 2), ...parts]);

  test.each(['', 'vgg16/', 'a/b/', 'block1_conv1/'])('with "%s" before them', async (scope) => {
    const bytes = makeZip([
      part(`${scope}block1_conv1/kernel:0`, '(3, 3, 1, 2)', 18),
      part(`${scope}block2_conv1/kernel:0`, '(3, 3, 2, 1)', 18),
      part(`${scope}fc1/kernel:0`, '(4, 3)', 12),
      part('other', '(3,)', 3),
    ]);
    const source = await openWeights(bytes);
    const shapes = Object.fromEntries(source.entries.map((entry) => [entry.name, entry.shape]));
    expect(shapes).toEqual({
      'features.0.weight': [2, 1, 3, 3],
      'features.3.weight': [1, 2, 3, 3],
      'classifier.0.weight': [3, 4],
      other: [3],
    });
    const all = await floatsOf(source);
    expect([...(all.get('features.0.weight') as Float32Array)].slice(0, 10)).toEqual([
      0, 2, 4, 6, 8, 10, 12, 14, 16, 1,
    ]);
    expect([...(all.get('classifier.0.weight') as Float32Array)].slice(0, 5)).toEqual([0, 3, 6, 9, 1]);
  });

  test.each<[string, string, string, string]>([
    ['Keras 3', 'layers/block1_conv1/vars/0', 'layers/block1_conv1/vars/1', 'layers/fc1/vars/0'],
    ['underscores', 'block1_conv1_kernel', 'block1_conv1_bias', 'fc1_kernel'],
    ['dots', 'block1_conv1.kernel', 'block1_conv1.bias', 'fc1.kernel'],
    ["the tutorials' letters", 'conv1_1_W', 'conv1_1_b', 'fc6_W'],
    ['TF-Slim', 'vgg_16/conv1/conv1_1/weights', 'vgg_16/conv1/conv1_1/biases', 'vgg_16/fc6/weights'],
  ])('of %s', async (_, kernel, bias, dense) => {
    const bytes = makeZip([
      part(kernel, '(3, 3, 1, 2)', 18),
      part(bias, '(2,)', 2),
      part(dense, '(8, 1)', 8),
      part('optimizer/iterations', '(1,)', 1),
    ]);
    const all = await readFloats(bytes);
    expect([...all.keys()].sort()).toEqual(['classifier.0.weight', 'features.0.bias', 'features.0.weight']);
    expect([...(all.get('features.0.weight') as Float32Array)].slice(0, 3)).toEqual([0, 2, 4]);
    expect([...(all.get('classifier.0.weight') as Float32Array)]).toEqual([0, 2, 4, 6, 1, 3, 5, 7]);
  });

  test('a grid of several channels is turned from (H, W, C) to (C, H, W)', async () => {
    const bytes = file(part('fc1/kernel', '(8, 1)', 8), part('fc2/kernel', '(1, 3)', 3));
    const all = await readFloats(bytes);
    expect([...(all.get('classifier.0.weight') as Float32Array)]).toEqual([0, 2, 4, 6, 1, 3, 5, 7]);
    expect([...(all.get('classifier.3.weight') as Float32Array)]).toEqual([0, 1, 2]);
  });

  test('shapes that are not of a VGG', async () => {
    const mismatch = { code: 'WEIGHTS_MISMATCH' } as const;
    await expectBad(file(part('fc1/kernel', '(6, 1)', 6)), /'fc1': expected 2 channels times a square/, mismatch);
    await expectBad(file(part('fc2/kernel', '(6,)', 6)), /'fc2': expected a kernel \(in, out\), got \[6\]/, mismatch);
    await expectBad(file(part('block1_conv2/kernel', '(6, 1)', 6)), /kernel \(height, width, in, out\)/, mismatch);
    await expectBad(file(part('vgg/block1_conv1/bias:0', '(2,)', 2)), /two arrays are 'block1_conv1\/bias'/);
  });
});

describe('a file that is refused', () => {
  const zeros = (count: number): Uint8Array => npy(DICT.replace('(3,)', `(${count / 4},)`), new Uint8Array(count));
  const flipped = one(DICT).slice();
  flipped[30 + 5 + 10 + DICT.length + 1] = 1;
  const deflated = one(DICT, floats(1, 2, 3), 1, { deflate: true });
  const torn = deflated.slice();
  torn.fill(0xff, 40, 50);
  test.each<[string, Uint8Array<ArrayBuffer>, RegExp]>([
    ['another version', one(DICT, floats(1), 4), /array 'a.npy': expected version 1.0, 2.0 or 3.0 of .npy, got 4.0/],
    ['no .npy', makeZip([{ name: 'a.npy', data: 'hello, world' }]), /'a.npy': it is no .npy array/],
    [
      'a short .npy',
      makeZip([{ name: 'a.npy', data: npy(DICT, floats()).slice(0, 20) }]),
      /ends within its .npy header/,
    ],
    [
      'an entry that is no array',
      makeZip([
        { name: 'a.npy', data: npy(DICT, floats(1, 2, 3)) },
        { name: 'x', data: '' },
      ]),
      /expected arrays \(.npy\), got 'x'/,
    ],
    ['Python objects', one(DICT.replace('<f4', '|O')), /Python objects, which are not read/],
    ['fields', one(DICT.replace("'<f4'", "[('x', '<f4')]")), /it has fields, and not one dtype/],
    ['an unknown dtype', one(DICT.replace('<f4', 'float32')), /its dtype 'float32' is not known/],
    ['another key', one(withDict("'x': 'y', ")), /a wrong 'x'/],
    ['a key twice', one(withDict("'descr': '<f4', ")), /has 'descr' twice/],
    ['no shape', one(DICT.replace(/'shape.*}/, '}')), /must have descr, fortran_order and shape/],
    ['an expression', one(DICT.replace('(3,)', '(1+2,)')), /its .npy header cannot be read from/],
    ['no dict', one('[]'), /its .npy header is no dict/],
    ['a huge shape', one(DICT.replace('(3,)', '(9007199254740993,)')), /its shape .* is none/],
    ['an overflow', one(DICT.replace('(3,)', '(1073741824, 1073741824, 0)')), /its shape .* is none/],
    ['too few values', one(DICT, floats(1, 2)), /its shape needs 12 bytes, and it has 8/],
    ['too many values', one(DICT, floats(1, 2, 3, 4)), /its shape needs 12 bytes, and it has 16/],
    ['a value that was changed', flipped, /array 'a.npy' is damaged: its checksum is 0x[0-9a-f]{8}, and should be 0x/],
    ['what is no deflate stream', torn, /entry 'a.npy' is not deflated as it should be|ends after|damaged|has over/],
    [
      'more than it says',
      one(DICT, floats(1, 2, 3), 1, { deflate: true, lie: { size: 70 } }),
      /needs 12 bytes|over the 70 bytes/,
    ],
    [
      'a bomb by its size',
      makeZip([{ name: 'a.npy', data: zeros(4000), deflate: true, lie: { size: 2 ** 30 } }]),
      /cannot have 1073741824 bytes: it is \d+ bytes when deflated/,
    ],
    [
      'another compression',
      one(DICT, floats(1, 2, 3), 1, { lie: { method: 12 } }),
      /stored or deflated, got compression method 12/,
    ],
    [
      'two arrays of one name',
      makeZip([
        { name: 'a.npy', data: npy(DICT, floats(1, 2, 3)) },
        { name: 'a.npy', data: npy(DICT, floats(1, 2, 3)) },
      ]),
      /two entries are called 'a.npy'/,
    ],
    ['one array without an archive', new Uint8Array(npy(DICT, floats(1, 2, 3))), /one array without a name \(.npy\)/],
  ])('%s', async (_, bytes, message) => {
    await expectBad(bytes, message, { stream: message });
  });

  test('a bomb that unpacks to more than it says costs no memory', async () => {
    const liar = zeros(2 ** 26);
    const bytes = makeZip([
      {
        name: 'a.npy',
        data: concat([npy(DICT, floats(1, 2, 3)), liar]),
        deflate: true,
        lie: { size: 10 + DICT.length + 1 + 12 },
      },
    ]);
    const before = process.memoryUsage();
    await expectBad(bytes, /over the \d+ bytes that it should have/);
    expect(process.memoryUsage().arrayBuffers - before.arrayBuffers).toBeLessThan(4e7);
  });

  test('arrays that deflate to next to nothing are refused, and few of them are read', async () => {
    const part: Omit<ZipPart, 'name'> = { data: zeros(2 ** 22), deflate: true };
    const bomb = (count: number): Uint8Array<ArrayBuffer> =>
      makeZip(Array.from({ length: count }, (_, i) => ({ name: `a${i}.npy`, ...part })));
    await expectBad(bomb(6), /its tensors are 25165824 bytes as float32, over the \d+ that a file with so few bytes/);
    expect((await readFloats(bomb(2))).get('a1')).toHaveLength(2 ** 20);
  });

  test('a file that ends at any byte', async () => {
    for (let end = 0; end < deflated.length; end += 3) await expectBad(deflated.slice(0, end), /./);
  });
});

test('the checksum is that of zlib, in parts too', () => {
  const bytes = bytesOfText('123456789');
  expect(portableCrc32(bytes)).toBe(0xcbf43926);
  const long = Uint8Array.from({ length: 1000 }, (_, i) => (i * i) >> 3);
  for (const split of [0, 1, 15, 16, 17, 500, 1000]) {
    expect(portableCrc32(long.subarray(split), portableCrc32(long.subarray(0, split)))).toBe(crc32(long));
  }
});
