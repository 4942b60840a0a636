import { describe, expect, test } from 'vitest';
import { openWeights } from '../../../src/weights/open.js';
import { bitsOfAll, floatsOf, readFloats } from '../fixtures.js';
import {
  BINPERSID,
  BUILD,
  call,
  dict,
  EMPTY_DICT,
  EMPTY_TUPLE,
  FALSE,
  floats,
  get,
  global,
  int,
  legacy,
  list,
  MARK,
  NONE,
  opcode,
  ordered,
  pickle,
  REDUCE,
  storage,
  tensor,
  text,
  text2,
  tuple,
} from '../pickle-writer.js';
import { streamOf } from '../rawfile.js';
import { expectBad } from '../refused.js';
import { concat } from '../zip-writer.js';

const four = { s: floats(1, 2, 3, 4) };
const good = ordered([text('w'), tensor(storage('s', 4), [2, 2], [2, 1])]);
const file = (object: Uint8Array): Uint8Array<ArrayBuffer> => legacy(object, four);
/** A state dict of one tensor, and beside it whatever. */
const beside = (other: Uint8Array): Uint8Array<ArrayBuffer> =>
  file(dict([text('w'), tensor(storage('s', 4), [2, 2], [2, 1])], [text('other'), other]));
const view = (shape: number[], strides: number[], offset = 0): Uint8Array<ArrayBuffer> =>
  file(dict([text('w'), tensor(storage('s', 4), shape, strides, offset)]));

async function valuesOf(bytes: Uint8Array<ArrayBuffer>): Promise<Record<string, number[]>> {
  const all = await readFloats(bytes);
  expect(bitsOfAll(await readFloats(streamOf(bytes, 5)))).toEqual(bitsOfAll(all));
  return Object.fromEntries([...all].map(([name, values]) => [name, [...values]]));
}

describe('what old checkpoints have', () => {
  test('Python 2: names as byte strings, an ordered dict of a list of pairs, tensors of version 1', async () => {
    const rebuilt = call(
      global('torch._utils', '_rebuild_tensor'),
      storage('s', 4),
      int(1),
      tuple(int(3)),
      tuple(int(1)),
    );
    const object = concat([
      global('collections', 'OrderedDict'),
      tuple(list(list(text2('a'), rebuilt), tuple(text2('b'), tensor(storage('s', 4), [1], [1])))),
      REDUCE,
    ]);
    expect(await valuesOf(file(object))).toEqual({ a: [2, 3, 4], b: [1] });
  });

  test('tensors that are made empty and then set, in parameters that are given flags', async () => {
    const state = tuple(storage('s', 4), int(0), tuple(int(2), int(2)), tuple(int(1), int(2)));
    const made = concat([global('torch', 'FloatTensor'), EMPTY_TUPLE, REDUCE, state, BUILD]);
    const parameter = concat([
      call(global('torch.nn.parameter', 'Parameter'), made),
      tuple(FALSE, FALSE, ordered()),
      BUILD,
    ]);
    expect(await valuesOf(file(dict([text('w'), parameter])))).toEqual({ w: [1, 3, 2, 4] });
  });

  test('a storage that is a part of another', async () => {
    const part = storage('s', 4, 'FloatStorage', [tuple(text('v'), int(1), int(2))]);
    expect(await valuesOf(file(dict([text('w'), tensor(part, [2], [1])])))).toEqual({ w: [2, 3] });
    await expectBad(file(dict([text('w'), tensor(part, [3], [1])])), /past its storage, at 12/);
    const over = storage('s', 4, 'FloatStorage', [tuple(text('v'), int(3), int(2))]);
    await expectBad(file(dict([text('w'), tensor(over, [1], [1])])), /not of a storage/);
  });

  test('storages on a GPU, and attributes of a dict', async () => {
    const id = tuple(text('storage'), global('torch.cuda', 'FloatStorage'), text('s'), text('cuda:0'), int(4), NONE);
    const object = concat([
      ordered([text('w'), tensor(concat([id, BINPERSID]), [4], [1])]),
      dict([text('_metadata'), EMPTY_DICT]),
      BUILD,
    ]);
    expect(await valuesOf(file(object))).toEqual({ w: [1, 2, 3, 4] });
  });
});

describe('what new checkpoints have', () => {
  test('a storage of bytes, whose tensor says the dtype', async () => {
    const bytes = storage('s', 16, 'UntypedStorage');
    const rebuilt = (dtype: string): Uint8Array =>
      call(
        global('torch._utils', '_rebuild_tensor_v3'),
        bytes,
        int(1),
        tuple(int(2)),
        tuple(int(1)),
        FALSE,
        ordered(),
        global('torch', dtype),
      );
    const untyped = (object: Uint8Array): Uint8Array<ArrayBuffer> => legacy(object, four, { counts: [16] });
    expect(await valuesOf(untyped(dict([text('w'), rebuilt('float32')])))).toEqual({ w: [2, 3] });
    // A dtype that is not read is refused when the tensor is wanted, and one that is not known with its tensor.
    await expect(readFloats(untyped(dict([text('w'), rebuilt('float8_e4m3fn')])))).rejects.toThrow(/F8_E4M3/);
    await expectBad(
      untyped(dict([text('w'), rebuilt('int1')])),
      /tensor 'w' depends on 'torch.int1', which is not read/,
    );
  });

  test('torch.Size as a shape', async () => {
    const shape = call(global('torch', 'Size'), tuple(int(4)));
    const rebuilt = call(
      global('torch._utils', '_rebuild_tensor_v2'),
      storage('s', 4),
      int(0),
      shape,
      tuple(int(1)),
      FALSE,
      ordered(),
      NONE,
    );
    expect(await valuesOf(file(dict([text('w'), rebuilt])))).toEqual({ w: [1, 2, 3, 4] });
  });
});

describe('a pickle that is refused', () => {
  test.each<[string, Uint8Array<ArrayBuffer>, RegExp]>([
    [
      'a whole model',
      file(global('torchvision.models.vgg', 'VGG')),
      /class 'torchvision.models.vgg.VGG', as of a whole/,
    ],
    ['opcode INST', beside(opcode(0x69)), /byte \d+: opcode 0x69 \(INST\) is not one that a state dict needs/],
    ['opcode EXT1', beside(opcode(0x82, 1)), /opcode 0x82 \(EXT1\)/],
    ['no opcode', beside(opcode(0xff)), /opcode 0xff \(no opcode that is known\)/],
    ['protocol 0', beside(opcode(0x80, 0)), /pickle protocol 0, expected 2 to 5/],
    ['a memo that dangles', beside(get(77)), /byte \d+: memo 77 was not put/],
    ['an empty stack', file(opcode(0x85)), /byte \d+: the stack is empty/],
    ['a stack emptied under a mark', file(concat([EMPTY_DICT, MARK, opcode(0x73)])), /the stack is empty/],
    ['no mark', file(opcode(0x74)), /there is no mark/],
    ['an odd dict', file(concat([EMPTY_DICT, MARK, int(1), opcode(0x75)])), /only a dict takes keys and values/],
    ['a key twice', file(dict([text('a'), int(1)], [text('a'), int(2)])), /the key 'a' comes twice/],
    ['a call of a number', beside(concat([int(1), EMPTY_TUPLE, REDUCE])), /calls what cannot be called/],
    ['a call of a storage', beside(concat([storage('s', 4), EMPTY_TUPLE, REDUCE])), /calls what cannot be called/],
    ['a call of a dtype', beside(call(global('torch', 'float32'))), /calls what cannot be called/],
    ['a call without a tuple', beside(concat([global('torch', 'Size'), int(1), REDUCE])), /called without a tuple/],
    ['a call with other arguments', beside(call(global('torch', 'Size'), int(1))), /arguments that are not right/],
    ['a state for a number', beside(concat([int(1), EMPTY_TUPLE, BUILD])), /sets a state that is not right/],
    ['an append to a dict', beside(concat([EMPTY_DICT, int(1), opcode(0x61)])), /only a list can be appended to/],
    ['an id of a module', beside(concat([tuple(text('module')), BINPERSID])), /not of a storage/],
    ['an integer of 300 bytes', beside(opcode(0x8b, 44, 1, 0, 0)), /an integer of 300 bytes/],
    ['a long string', beside(opcode(0x58, 255, 255, 255, 255)), /a string of 4294967295 bytes/],
    ['steps without end', file(new Uint8Array(1_100_000).fill(0x4e)), /over 1048576 steps/],
    ['no end', file(concat([opcode(0x58, 0, 0, 0, 1), new Uint8Array(2 ** 24)])), /has over 16777216 bytes/],
    ['a list', file(list(int(1))), /expected a dict of tensors, got a list; save the weights by torch.save/],
    [
      'a tensor',
      file(tensor(storage('s', 4), [4], [1])),
      /expected a dict of tensors, got a tensor; save the weights by torch.save/,
    ],
    ['nothing', file(NONE), /got None/],
    ['a dict without tensors', file(dict([text('a'), int(1)])), /got one without any/],
    ['__proto__', file(dict([text('__proto__'), tensor(storage('s', 4), [4], [1])])), /name that is not allowed/],
    [
      'a sparse tensor',
      beside(call(global('torch._utils', '_rebuild_sparse_tensor'), int(1))),
      /tensor 'other' is sparse; save it after .*to_dense/,
    ],
  ])('%s', async (_, bytes, message) => {
    await expectBad(bytes, message, { stream: message });
  });

  test.each<[string, Uint8Array<ArrayBuffer>, RegExp]>([
    ['past its end', view([5], [1]), /a view that ends at byte 20, past its storage, at 16/],
    ['past its end by its offset', view([1], [1], 4), /ends at byte 20, past its storage/],
    ['past its end by a stride', view([2, 2], [3, 2]), /ends at byte 24, past its storage/],
    ['of 2^60 elements', view([2 ** 30, 2 ** 30], [1, 1]), /past its storage/],
    ['over and over', view([2 ** 20], [0]), /a view of 1048576 values, over and over/],
    ['without a stride', view([4], []), /arguments that are not right/],
    ['of a negative size', file(dict([text('w'), tensor(storage('s', 4), [-1], [1])])), /arguments that are not right/],
    ['of 100 dimensions', view(new Array(100).fill(1), new Array(100).fill(1)), /arguments that are not right/],
  ])('a view %s', async (_, bytes, message) => {
    await expectBad(bytes, message, { stream: message });
  });

  test('a tensor that is negated when read', async () => {
    const flags = dict([text('neg'), opcode(0x88)]);
    const rebuild = global('torch._utils', '_rebuild_tensor_v2');
    const negated = call(rebuild, storage('s', 4), int(0), tuple(int(4)), tuple(int(1)), FALSE, ordered(), flags);
    await expectBad(file(dict([text('w'), negated])), /a tensor with flags/);
  });

  test('a storage of two sizes', async () => {
    const object = dict([text('a'), tensor(storage('s', 4), [1], [1])], [text('b'), tensor(storage('s', 3), [1], [1])]);
    await expectBad(file(object), /not of a storage/);
  });
});

describe('what nobody knows', () => {
  const made = (module: string, name: string, ...args: Uint8Array[]): Uint8Array => call(global(module, name), ...args);
  test.each<[string, Uint8Array]>([
    ['os.system', made('os', 'system', text('touch /tmp/owned'))],
    ['builtins.eval', made('builtins', 'eval', text('globalThis.owned = 1'))],
    ['a name of no module', made('', '__proto__')],
    ['a constructor of objects', made('constructor', 'constructor', text('return process'))],
    ['argparse.Namespace, with a state', concat([made('argparse', 'Namespace'), dict([text('lr'), int(1)]), BUILD])],
    ['a set', concat([opcode(0x8f), MARK, int(1), opcode(0x90)])],
    ['bytes', opcode(0x43, 3, 1, 2, 3)],
    ['a NumPy array', made('numpy.core.multiarray', '_reconstruct', global('numpy', 'ndarray'), tuple(int(0)))],
    ['a Counter', made('collections', 'Counter', dict([text('a'), int(1)]))],
    [
      'a defaultdict',
      concat([made('collections', 'defaultdict', global('builtins', 'list')), text('a'), int(1), opcode(0x73)]),
    ],
    ['a class with arguments by name', concat([global('a', 'B'), EMPTY_TUPLE, EMPTY_DICT, opcode(0x92)])],
  ])('%s beside the weights is not called, and passed over', async (_, other) => {
    expect(await valuesOf(beside(other))).toEqual({ w: [1, 2, 3, 4] });
    expect('owned' in globalThis).toBe(false);
  });

  test('a tensor made of it is refused by name, also behind a Parameter', async () => {
    const rebuilt = made(
      'torch._utils',
      '_rebuild_tensor_v2',
      made('my', 'Storage'),
      int(0),
      tuple(int(1)),
      tuple(int(1)),
    );
    await expectBad(beside(rebuilt), /tensor 'other' depends on 'my.Storage', which is not read/);
    const parameter = made('torch._utils', '_rebuild_parameter', rebuilt, FALSE, ordered());
    await expectBad(beside(parameter), /tensor 'other' depends on 'my.Storage'/);
  });

  test.each<[string, string, RegExp]>([
    [
      'weight norm',
      'classifier.6.weight_g',
      /parametrized weight; before saving call torch.nn.utils.remove_weight_norm/,
    ],
    ['a parametrization', 'a.parametrizations.weight.original0', /remove_parametrizations/],
    [
      'a quantized layer',
      'classifier.0._packed_params._packed_params',
      /of a quantized layer; save the model as it was/,
    ],
  ])('%s is refused with what to do', async (_, name, message) => {
    await expectBad(file(dict([text(name), tensor(storage('s', 4), [4], [1])])), message);
  });
});

describe('what a pickle makes is counted', () => {
  const many = (count: number, part: Uint8Array): Uint8Array => concat(new Array<Uint8Array>(count).fill(part));
  const filled = (item: Uint8Array): Uint8Array =>
    concat([opcode(0x5d, 0x71, 1, 0x28), many(30_000, item), opcode(0x65)]);
  test.each<[string, Uint8Array]>([
    [
      'torch.Size of a list',
      concat([
        global('torch', 'Size'),
        opcode(0x71, 0),
        filled(NONE),
        many(4000, opcode(0x68, 0, 0x68, 1, 0x85, 0x52)),
      ]),
    ],
    [
      'OrderedDict of a list of pairs',
      concat([
        global('collections', 'OrderedDict'),
        opcode(0x71, 0),
        filled(opcode(0x5d, 0x4e, 0x86)),
        many(4000, opcode(0x68, 0, 0x68, 1, 0x85, 0x52)),
      ]),
    ],
    ['empty dicts', many(1_000_000, EMPTY_DICT)],
    ['entries of the memo', concat([NONE, many(1_100_000, opcode(0x94))])],
    [
      'tensors',
      concat([tensor(storage('s', 4), [1], [1]), many(20, concat([opcode(0x30), tensor(storage('s', 4), [1], [1])]))]),
    ],
  ])('%s', async (what, body) => {
    const bytes = file(body);
    const before = process.memoryUsage().rss;
    // Twenty tensors are no crime, but no dict either.
    await expectBad(
      bytes,
      what === 'tensors' ? /got a tensor/ : /makes values of over 67108864 bytes|over 1048576 steps/,
    );
    expect(process.memoryUsage().rss - before).toBeLessThan(400e6);
  });

  test('a torch.Size of a tuple is that tuple, and costs nothing', async () => {
    const shared = concat([
      global('torch', 'Size'),
      opcode(0x71, 0, 0x28),
      many(30_000, NONE),
      opcode(0x74, 0x71, 1, 0x28),
      many(4000, opcode(0x68, 0, 0x68, 1, 0x85, 0x52)),
      opcode(0x31, 0x30, 0x30),
      dict([text('w'), tensor(storage('s', 4), [4], [1])]),
    ]);
    expect(await valuesOf(file(shared))).toEqual({ w: [1, 2, 3, 4] });
  });
});

describe('tensors out of proportion to the file', () => {
  test('many views that repeat few values are refused, and a few are read', async () => {
    const expanded = (count: number): Uint8Array<ArrayBuffer> =>
      file(
        dict(
          ...Array.from(
            { length: count },
            (_, i) => [text(`t${i}`), tensor(storage('s', 4), [256, 256], [0, 0])] as const,
          ),
        ),
      );
    await expectBad(expanded(100), /its tensors are 26214400 bytes as float32, over the 16777280 that/);
    expect((await readFloats(expanded(3))).get('t2')).toHaveLength(65_536);
  });

  test('a storage that many tensors share is refused, and one that four share is read', async () => {
    const count = 2 ** 19;
    const tied = (times: number): Uint8Array<ArrayBuffer> =>
      legacy(
        dict(
          ...Array.from(
            { length: times },
            (_, i) => [text(`t${i}`), tensor(storage('s', count), [count], [1])] as const,
          ),
        ),
        { s: new Uint8Array(4 * count) },
      );
    await expectBad(tied(13), /its tensors are 27262976 bytes as float32, over the 25165824 that/);
    expect((await readFloats(tied(4))).size).toBe(4);
  });
});

describe('which dict of tensors is taken', () => {
  const weights = (value: number): Uint8Array => dict([text('w'), tensor(storage('s', 4), [1, 1], [1, 1], value - 1)]);
  const nested = dict(
    [text('epoch'), int(3)],
    [text('best'), tensor(storage('s', 4), [], [])],
    [text('net'), weights(2)],
    [text('optimizer'), dict([text('state'), dict([int(0), weights(3)])])],
  );
  test('the only one that has weights, under any key', async () => {
    expect(await valuesOf(file(nested))).toEqual({ w: [2] });
  });

  test('one of several by the option key, and else the error lists them', async () => {
    const bytes = file(
      dict(
        [text('params'), weights(1)],
        [text('ema'), dict([text('model'), weights(2)])],
        [text('params_ema'), weights(3)],
      ),
    );
    await expectBad(
      bytes,
      /several dicts of tensors, 'params' \(1 tensor\), 'params_ema' \(1 tensor\): choose one by the option key/,
    );
    const chosen = await openWeights(bytes, { key: 'ema.model' });
    expect((await floatsOf(chosen)).get('w')).toEqual(Float32Array.of(2));
    await expect(openWeights(bytes, { key: 'no' })).rejects.toThrow(/is called 'no'; there is 'params'/);
  });

  test('one dict under two keys is one', async () => {
    const bytes = file(
      concat([opcode(0x7d, 0x28), text('a'), weights(4), opcode(0x71, 9), text('b'), get(9), opcode(0x75)]),
    );
    expect(await valuesOf(bytes)).toEqual({ w: [4] });
  });
});

describe('a legacy file that is refused', () => {
  const number = pickle(opcode(0x8a, 2, 1, 1));
  const cut = (bytes: Uint8Array<ArrayBuffer>, by: number): Uint8Array<ArrayBuffer> => bytes.slice(0, -by);
  test.each<[string, Uint8Array<ArrayBuffer>, RegExp, RegExp?]>([
    ['without its magic number', legacy(good, four, { magic: number }), /without its magic number/],
    ['that is another pickle', pickle(text('hello')), /without its magic number/],
    [
      'of another version',
      legacy(good, four, { version: 1002 }),
      /expected version 1001 of the legacy format, got 1002/,
    ],
    ['that is big-endian', legacy(good, four, { littleEndian: false }), /expected values in little-endian order/],
    ['that lists a storage twice', legacy(good, four, { keys: ['s', 's'] }), /storage 's' is listed twice/],
    ['that lists another storage', legacy(good, four, { keys: ['s', 't'] }), /storage 't' is listed twice, or is not/],
    ['that lacks a storage', legacy(good, {}), /storage 's' is missing/],
    ['whose storage has another length', legacy(good, four, { counts: [3] }), /storage 's' at byte \d+ has 3 elements/],
    [
      'cut in a storage',
      cut(file(good), 3),
      /storages go from byte \d+ to \d+, and the file ends at/,
      /ends early at byte/,
    ],
    ['cut in a pickle', file(good).slice(0, 200), /ends early at byte 200, within the pickle that begins at byte \d+/],
    ['cut at once', file(good).slice(0, 2), /ends early at byte 2, within the pickle/],
    ['with a tail', concat([file(good), floats(1)]), /the file ends at/, /bytes follow the last storage/],
  ])('%s', async (_, bytes, message, stream = message) => {
    await expectBad(bytes, message, { stream });
  });
});
