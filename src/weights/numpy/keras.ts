import { VGGNetError } from '../../errors.js';
import { formatShape } from '../../tensor.js';
import { type Architecture, createConvLayers } from '../../vgg.js';
import type { ViewEntry } from '../bytes/view.js';
import { quoteName } from '../safetensors/header.js';

/*
 * Keras's VGG: `block1_conv1/kernel` and `/bias`, `fc1`, `fc2` and `predictions`, with ':0' behind, folders before, dots
 * or underscores between, or `vars/0` and `vars/1`, or not; and the same network as TensorFlow's tutorials and TF-Slim
 * call it, `conv1_1_W` and `fc6/weights`. Kernels are (height, width, in, out), dense ones (in, out), and fc1 reads a
 * grid flattened as (height, width, channels), where PyTorch's reads (channels, height, width). The values stay where
 * they are: only the order in which they are read is another.
 */

const NAME =
  /^(?:[^/]+\/)*?(block(\d{1,2})_conv(\d{1,2})|conv(\d{1,2})_(\d{1,2})|fc[12678]|predictions)(?:\/\1)?[/._](?:vars\/)?(kernel|bias|weights|biases|W|b|0|1)(?::0)?$/;
const KERNELS: ReadonlySet<string> = new Set(['kernel', 'weights', 'W', '0']);
/** Of the optimizer. */
const COUNTERS = /(?:^|\/)(?:iterations?|learning_rate|decay)(?::0)?$/;
const LINEAR = ['fc1', 'fc2', 'predictions'] as const;
const OTHER_NAMES: Readonly<Record<string, (typeof LINEAR)[number]>> = { fc6: 'fc1', fc7: 'fc2', fc8: 'predictions' };
const CANONICAL = ['classifier.0', 'classifier.3', 'classifier.6'] as const;

interface Part {
  readonly entry: ViewEntry;
  readonly layer: string;
  /** 0 for a dense layer. */
  readonly block: number;
  readonly index: number;
  readonly key: 'kernel' | 'bias';
}

/**
 * Keras's tensors as torchvision's; undefined if none of the names is Keras's. Others stay as they are.
 * @throws VGGNetError `INVALID_WEIGHTS_FILE` if a tensor comes twice; `WEIGHTS_MISMATCH` for a shape that is none of a
 * VGG's
 */
export function fromKeras(entries: readonly ViewEntry[], label: string): ViewEntry[] | undefined {
  const parts = new Map<string, Part>();
  const others: ViewEntry[] = [];
  for (const entry of entries) {
    const match = NAME.exec(entry.name);
    if (!match) {
      if (!COUNTERS.test(entry.name)) others.push(entry);
      continue;
    }
    const [, found = '', kerasBlock, kerasIndex, block = kerasBlock ?? '0', index = kerasIndex ?? '0', word = ''] =
      match;
    const key = KERNELS.has(word) ? 'kernel' : 'bias';
    const layer = OTHER_NAMES[found] ?? found;
    const id = `${layer}/${key}`;
    if (parts.has(id)) {
      throw new VGGNetError('INVALID_WEIGHTS_FILE', `${label}: two arrays are ${quoteName(id)}`);
    }
    parts.set(id, { entry, layer, block: Number(block), index: Number(index), key });
  }
  // Biases alone are another scheme's, whose weights are called `weight` and lie as PyTorch's.
  if (![...parts.values()].some(({ key }) => key === 'kernel')) return undefined;
  const paths = convPaths([...parts.values()]);
  const channels = lastChannels([...parts.values()]);
  return [
    ...[...parts.values()].map((part) => {
      const dense = LINEAR.indexOf(part.layer as (typeof LINEAR)[number]);
      return dense < 0 ? conv(part, paths.get(part.layer) as string) : linear(part, dense, channels);
    }),
    ...others,
  ];
}

/** torchvision's path of each convolution: every block ends with a max-pool. */
function convPaths(parts: readonly Part[]): Map<string, string> {
  const convs = sortedConvs(parts);
  const list: Architecture = convs.flatMap((part, i) => (i > 0 && convs[i - 1]?.block !== part.block ? ['M', 1] : [1]));
  const layers = createConvLayers(list, 1, false).filter((layer) => layer.op === 'conv2d');
  return new Map(convs.map(({ layer }, i) => [layer, layers[i]?.path as string]));
}

/** One part for each convolution, in the order of the network. */
function sortedConvs(parts: readonly Part[]): Part[] {
  const convs = new Map(parts.filter(({ block }) => block > 0).map((part) => [part.layer, part]));
  return [...convs.values()].sort((a, b) => a.block - b.block || a.index - b.index);
}

function lastChannels(parts: readonly Part[]): number {
  const last = sortedConvs(parts).at(-1);
  return last?.entry.shape.at(-1) ?? 0;
}

function conv({ entry, layer, key }: Part, path: string): ViewEntry {
  if (key === 'bias') return { ...entry, name: `${path}.bias` };
  return { ...permuted(entry, layer, [3, 2, 0, 1], 'a kernel (height, width, in, out)'), name: `${path}.weight` };
}

function linear({ entry, layer, key }: Part, index: number, channels: number): ViewEntry {
  const path = CANONICAL[index] as string;
  if (key === 'bias') return { ...entry, name: `${path}.bias` };
  const flat = permuted(entry, layer, [1, 0], 'a kernel (in, out)');
  const name = `${path}.weight`;
  if (index > 0) return { ...flat, name };
  const [out = 0, inputs = 0] = flat.shape;
  const side = Math.sqrt(inputs / channels);
  if (!Number.isInteger(side) || side < 1) {
    mismatch(layer, `${channels} channels times a square of inputs`, entry.shape);
  }
  const { layout } = flat;
  const [outStride = 0, inStride = 0] = layout.strides;
  return {
    ...flat,
    name,
    layout: {
      ...layout,
      dims: [out, channels, side, side],
      strides: [outStride, inStride, side * channels * inStride, channels * inStride],
    },
  };
}

function permuted(entry: ViewEntry, layer: string, order: readonly number[], expected: string): ViewEntry {
  if (entry.shape.length !== order.length) mismatch(layer, expected, entry.shape);
  const { layout } = entry;
  const dims = order.map((from) => layout.dims[from] as number);
  return {
    ...entry,
    shape: dims,
    layout: { ...layout, dims, strides: order.map((from) => layout.strides[from] as number) },
  };
}

function mismatch(layer: string, expected: string, shape: readonly number[]): never {
  throw new VGGNetError(
    'WEIGHTS_MISMATCH',
    `These weights are not of a VGG network: ${quoteName(layer)}: expected ${expected}, got ${formatShape(shape)}`,
  );
}
