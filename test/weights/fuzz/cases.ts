import { VGGNetError } from '../../../src/errors.js';
import { VGGNet } from '../../../src/model.js';
import { numel, Tensor } from '../../../src/tensor.js';
import { openBytes, type WeightsInput } from '../../../src/weights/bytes/bytes.js';
import { ByteCursor } from '../../../src/weights/bytes/cursor.js';
import { readDirectory, seekEntry } from '../../../src/weights/bytes/zip.js';
import { isFloatDtype } from '../../../src/weights/dtype.js';
import { openWeights } from '../../../src/weights/open.js';
import { saveSafetensors } from '../../../src/weights/write.js';
import { makeOnnx, smallGraph } from '../onnx-writer.js';
import { floats, legacy, ordered, pickle, storage, tensor, text } from '../pickle-writer.js';
import { quantizedFile } from '../quantized-file.js';
import { streamOf } from '../rawfile.js';
import { makeZip, type ZipPart } from '../zip-writer.js';
import { mutateArchive } from './archives.js';
import { mutatePickle } from './pickles.js';
import { mutateProtobuf } from './protobufs.js';
import { Random } from './random.js';
import { anyNpy, mutateSafetensors } from './texts.js';

/*
 * Files whose structure is changed, not only their bytes: each must give weights or a typed error, soon and with
 * little memory. A case is its format, seed and number: nothing else goes into it.
 */

type Bytes = Uint8Array<ArrayBuffer>;
type Make = (random: Random) => Bytes;

export type Formats = Readonly<Record<string, Make>>;

const object = ordered(
  [text('features.0.weight'), tensor(storage('0', 4), [1, 1, 2, 2], [4, 4, 2, 1])],
  [text('features.0.bias'), tensor(storage('1', 2), [1], [1])],
);
const four = floats(1, 2, 3, 4);
const two = floats(5, 6);

async function partsOf(bytes: Bytes): Promise<ZipPart[]> {
  const cursor = new ByteCursor(await openBytes(bytes));
  const parts: ZipPart[] = [];
  for (const entry of await readDirectory(cursor)) {
    await seekEntry(cursor, entry);
    parts.push({ name: entry.name, data: await cursor.take(entry.size, 'an entry') });
  }
  return parts;
}

/**
 * The formats, each with what makes a file of it.
 * @param fixture reads a file of test/golden/checkpoints, which other programs wrote
 */
export async function formatsOf(fixture: (name: string) => Bytes): Promise<Formats> {
  const small: ZipPart[] = [
    { name: 'x/data.pkl', data: pickle(object) },
    { name: 'x/byteorder', data: 'little' },
    { name: 'x/data/0', data: four },
    { name: 'x/data/1', data: two },
  ];
  const archives = [small, await partsOf(fixture('plain.pth')), await partsOf(fixture('nested.pth'))];
  const arrays = await partsOf(fixture('keras.npz'));
  const graphs = [
    makeOnnx(smallGraph()),
    makeOnnx(smallGraph({ batchNorm: true })),
    fixture('plain.onnx'),
    fixture('matmul.onnx'),
  ];
  const plain = { 'features.0.weight': Tensor.zeros([1, 1, 3, 3]), 'features.0.bias': Tensor.zeros([1]) };
  const model = await VGGNet.create([2, 'M'], {
    hiddenFeatures: 2,
    numClasses: 2,
    inChannels: 1,
    poolSize: 1,
    device: 'reference',
  });
  const saved = new Uint8Array(await new Response(model.save()).arrayBuffer());
  const tensors = [saveSafetensors(plain, { metadata: { a: 'b' } }), await quantizedFile(), saved];
  const isPickle = ({ name }: ZipPart): boolean => name.endsWith('data.pkl');
  return {
    'torch-pickle': (random) => {
      const parts = random.pick(archives);
      return makeZip(
        parts.map((part) => (isPickle(part) ? { ...part, data: mutatePickle(part.data as Uint8Array, random) } : part)),
      );
    },
    'torch-legacy': (random) => {
      const changed = mutatePickle(pickle(object), random).slice(2, -1);
      return legacy(
        random.chance(20) ? pickle(changed) : changed,
        { 0: four, 1: two },
        random.chance(6) ? { counts: [random.extreme(), 2] } : {},
      );
    },
    'torch-zip': (random) => mutateArchive(random.pick(archives), random),
    npz: (random) => {
      const at = random.below(arrays.length);
      const part = { name: (arrays[at] as ZipPart).name, data: anyNpy(random), deflate: random.chance(2) };
      const parts = random.chance(2) ? arrays.with(at, part) : [part, { ...part, name: 'z.npy' }];
      return random.chance(3) ? mutateArchive(parts, random) : makeZip(parts);
    },
    onnx: (random) => mutateProtobuf(random.pick(graphs), random),
    safetensors: (random) => mutateSafetensors(random.pick(tensors), random),
  };
}

export function makeCase(make: Make, seed: number, index: number): Bytes {
  return make(new Random(seed * 1_000_003 + index));
}

/** @returns 'read', or the code of a typed error; throws any other */
export async function runCase(bytes: Bytes, index: number): Promise<string> {
  // Bytes and streams take other paths, and so do tensors alone and a model.
  const input: WeightsInput = index % 3 === 0 ? streamOf(bytes, 1 + ((index * 37) % 4000)) : bytes;
  try {
    if (index % 4 === 0) {
      (await VGGNet.load(input, { device: 'reference' })).dispose();
      return 'read';
    }
    const source = await openWeights(input);
    try {
      const names = source.entries.filter(({ dtype }) => isFloatDtype(dtype)).map(({ name }) => name);
      const left = new Map(source.entries.map(({ name, shape }) => [name, numel(shape)]));
      for await (const { name, data } of source.chunks(new Set(names)))
        left.set(name, (left.get(name) as number) - data.length);
      const wrong = names.find((name) => left.get(name) !== 0 && !name.endsWith('num_batches_tracked'));
      if (wrong !== undefined) throw new Error(`${left.get(wrong)} values of '${wrong}' did not come`);
    } finally {
      await source.close();
    }
    return 'read';
  } catch (error) {
    if (error instanceof VGGNetError && error.code !== 'DISPOSED') return error.code;
    throw error;
  }
}
