import { describe, expect, test } from 'vitest';
import { bitsOfAll, readFloats } from '../fixtures.js';
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
    await expectBad(untyped(dict([text('w'), rebuilt('uint64')])), /'torch.uint64', which is not one/);
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
  const system = concat([global('os', 'system'), tuple(text('true')), REDUCE]);
  test.each<[string, Uint8Array<ArrayBuffer>, RegExp]>([
    [
      'os.system',
      beside(system),
      /byte \d+: the pickle asks for 'os.system', which is not one that a state dict needs/,
    ],
    ['a whole model', file(global('torchvision.models.vgg', 'VGG')), /'torchvision.models.vgg.VGG'/],
    ['builtins', beside(global('builtins', 'eval')), /'builtins.eval'/],
    ['a name of no module', beside(global('', '__proto__')), /'.__proto__'/],
    ['a constructor of objects', beside(global('constructor', 'constructor')), /'constructor.constructor'/],
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
    ['steps without end', file(new Uint8Array(300_000).fill(0x4e)), /over 262144 steps/],
    ['no end', file(concat([opcode(0x58, 0, 0, 0, 1), new Uint8Array(2 ** 24)])), /has over 16777216 bytes/],
    ['a list', file(list(int(1))), /expected a dict of tensors, .* got a list/],
    ['a tensor', file(tensor(storage('s', 4), [4], [1])), /expected a dict of tensors, .* got a tensor/],
    ['nothing', file(NONE), /got None/],
    ['a dict without tensors', file(dict([text('a'), int(1)])), /got one without any/],
    ['__proto__', file(dict([text('__proto__'), tensor(storage('s', 4), [4], [1])])), /name that is not allowed/],
    [
      'a sparse tensor',
      beside(global('torch._utils', '_rebuild_sparse_tensor')),
      /'torch._utils._rebuild_sparse_tensor'/,
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
