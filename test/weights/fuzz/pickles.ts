import * as write from '../pickle-writer.js';
import { concat } from '../zip-writer.js';
import type { Random } from './random.js';

/* Pickles as lists of opcodes with their arguments, changed in order, number and arguments. */

type Bytes = Uint8Array<ArrayBuffer>;

/** Bytes behind an opcode; 'line' for those that end with a newline, and a width for those that follow their length. */
const ARGUMENTS: Readonly<Record<number, number | 'line' | 'lines' | readonly [lengthBytes: number]>> = {
  128: 1,
  149: 8,
  74: 4,
  75: 1,
  77: 2,
  71: 8,
  113: 1,
  114: 4,
  104: 1,
  106: 4,
  130: 1,
  99: 'lines',
  88: [4],
  84: [4],
  140: [1],
  85: [1],
  141: [8],
  138: [1],
  139: [4],
  67: [1],
  66: [4],
  142: [8],
  150: [8],
};

/** Takes a pickle apart into opcodes with their arguments, up to STOP. */
export function opcodesOf(bytes: Uint8Array): Bytes[] {
  const found: Bytes[] = [];
  for (let at = 0; at < bytes.length; ) {
    const start = at;
    const opcode = bytes[at++] as number;
    const argument = ARGUMENTS[opcode] ?? 0;
    if (argument === 'lines' || argument === 'line') {
      for (let lines = argument === 'lines' ? 2 : 1; lines > 0; lines--) at = bytes.indexOf(0x0a, at) + 1;
    } else if (typeof argument === 'number') at += argument;
    else {
      let length = 0;
      for (let i = argument[0] - 1; i >= 0; i--) length = length * 256 + (bytes[at + i] as number);
      at += argument[0] + length;
    }
    found.push(bytes.slice(start, at));
    if (opcode === 0x2e) break;
  }
  return found;
}

const GLOBALS = [
  'torch Size',
  'collections OrderedDict',
  'collections Counter',
  'collections defaultdict',
  'torch FloatStorage',
  'torch HalfStorage',
  'torch._utils _rebuild_tensor',
  'torch._utils _rebuild_tensor_v2',
  'torch._utils _rebuild_tensor_v3',
  'torch._utils _rebuild_parameter',
  'torch._utils _rebuild_sparse_tensor',
  'torch._utils _rebuild_qtensor',
  'torch._tensor _rebuild_from_type_v2',
  'torch.nn.parameter Parameter',
  'torch FloatTensor',
  'torch float32',
  'torch float8_e4m3fn',
  'torch.storage UntypedStorage',
  'os system',
  'builtins eval',
  'numpy.core.multiarray _reconstruct',
  'argparse Namespace',
  '__main__ VGG',
  ' __proto__',
  'constructor constructor',
].map((name) => name.split(' ') as [string, string]);

const SIMPLE = [
  0x28, 0x29, 0x2e, 0x30, 0x31, 0x32, 0x4e, 0x51, 0x52, 0x5d, 0x61, 0x62, 0x65, 0x73, 0x74, 0x75, 0x7d, 0x81, 0x85,
  0x86, 0x87, 0x88, 0x89, 0x8f, 0x90, 0x91, 0x92, 0x93, 0x94, 0x69, 0x97, 0xff,
];

function anyOpcode(random: Random): Bytes {
  switch (random.below(9)) {
    case 0:
      return concat([write.global(...random.pick(GLOBALS))]);
    case 1:
      return concat([write.int(random.pick([0, 1, 2, 4, 64, 255, 65_536, 2 ** 31 - 1]))]);
    case 2:
      return concat([
        write.text(random.pick(['a', 'storage', '0', '1', 'state_dict', 'cpu', '__proto__', 'x'.repeat(300)])),
      ]);
    case 3:
      return concat([write.get(random.below(6))]);
    case 4:
      return concat([write.put(random.below(6))]);
    case 5:
      return concat([
        write.storage(
          random.pick(['0', '1', 'z']),
          random.pick([0, 1, 2, 4, 2 ** 30]),
          random.pick(['FloatStorage', 'HalfStorage', 'UntypedStorage', 'QInt8Storage']),
        ),
      ]);
    case 6: {
      const sizes = Array.from({ length: random.below(5) }, () => random.pick([0, 1, 2, 3, 4, 255, 65_536, 2 ** 30]));
      const strides = sizes.map(() => random.pick([0, 0, 1, 2, 4, 2 ** 20]));
      return concat([write.tensor(write.storage('0', 4), sizes, strides, random.pick([0, 0, 1, 5]))]);
    }
    case 7:
      return random.bytes(6);
    default:
      return Uint8Array.of(random.pick(SIMPLE));
  }
}

/** Makes as much as it can with few bytes: what the memo has, over and over. */
function bomb(random: Random): Bytes[] {
  const [module, name] = random.pick(GLOBALS);
  const filler = random.pick([
    write.NONE,
    concat([write.text('a'), write.NONE, Uint8Array.of(0x86)]),
    concat([Uint8Array.of(0x5d), write.NONE, Uint8Array.of(0x86)]),
  ]);
  const size = random.pick([10, 1000, 20_000]);
  const copies = random.pick([10, 1000, 5000]);
  const again = concat([
    write.get(0),
    write.get(1),
    random.pick([Uint8Array.of(0x85), Uint8Array.of(0x86), Uint8Array.of(0x29)]),
    Uint8Array.of(random.pick([0x52, 0x81, 0x65, 0x61])),
  ]);
  return [
    concat([write.global(module, name), write.put(0)]),
    concat([Uint8Array.of(random.pick([0x5d, 0x28, 0x7d])), write.put(1), Uint8Array.of(0x28)]),
    ...new Array<Bytes>(size).fill(concat([filler])),
    Uint8Array.of(random.pick([0x65, 0x74, 0x75])),
    ...new Array<Bytes>(copies).fill(again),
  ];
}

/** A pickle with a few changes. */
export function mutatePickle(bytes: Uint8Array, random: Random): Bytes {
  // Without STOP, which comes last again.
  let opcodes = opcodesOf(bytes).slice(0, -1);
  if (random.chance(40)) opcodes.splice(1, 0, ...bomb(random));
  for (let count = 1 + random.below(4); count > 0; count--) {
    if (random.chance(30)) {
      // One part many times.
      const from = random.below(opcodes.length);
      const part = opcodes.slice(from, from + 1 + random.below(6));
      for (let times = random.pick([10, 300]); times > 0; times--) opcodes.splice(from, 0, ...part);
    } else opcodes = random.mutate(opcodes, () => anyOpcode(random));
  }
  if (!random.chance(10)) opcodes.push(write.STOP as Bytes);
  return concat(opcodes);
}
