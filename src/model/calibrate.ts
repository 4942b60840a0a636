import type { Layer } from '../program/layers.js';
import type { Tensor } from '../tensor.js';

/** The share of a layer's inputs that a range holds; the few larger ones would make the steps of all others coarser. */
const SHARE = 0.9999;
/** Parts of the way to the largest value in which values are counted. */
const BINS = 8192;

/**
 * For each convolution after the first, the range of its inputs in some forwards.
 * @param features gives outputs of layers by name
 */
export async function calibrate(
  layers: readonly Layer[],
  inputs: Iterable<Tensor> | AsyncIterable<Tensor>,
  features: (input: Tensor, names: readonly string[]) => Promise<Record<string, Tensor>>,
): Promise<Record<string, number>> {
  const ranged = rangedInputs(layers);
  const ranges: Record<string, number> = Object.fromEntries(ranged.map(({ conv }) => [conv, 0]));
  if (ranged.length === 0) return ranges;
  const names = ranged.map(({ input }) => input);
  for await (const tensor of inputs) {
    const values = await features(tensor, names);
    for (const { conv, input } of ranged) {
      ranges[conv] = Math.max(ranges[conv] as number, rangeOf(values[input] as Tensor));
    }
  }
  return ranges;
}

/** The layers whose output is what a convolution in int8 reads, with the convolution's name. */
function rangedInputs(layers: readonly Layer[]): { conv: string; input: string }[] {
  return layers.flatMap((layer, i) => {
    const before = layers[i - 1];
    return layer.op === 'conv2d' && before ? [{ conv: layer.name, input: before.name }] : [];
  });
}

/** The least value that all but the largest of a tensor do not pass, up to a step of 1/8192 of the largest. */
function rangeOf({ data }: Tensor): number {
  let most = 0;
  for (let i = 0; i < data.length; i++) most = Math.max(most, data[i] as number);
  if (!(most > 0 && most < Number.POSITIVE_INFINITY)) return 0;
  const counts = new Uint32Array(BINS + 1);
  for (let i = 0; i < data.length; i++) {
    const bin = Math.ceil(((data[i] as number) / most) * BINS);
    counts[Math.max(0, bin)] = (counts[Math.max(0, bin)] as number) + 1;
  }
  let left = Math.floor((1 - SHARE) * data.length);
  let bin = BINS;
  while (bin > 1 && left >= (counts[bin] as number)) left -= counts[bin--] as number;
  return (bin / BINS) * most;
}
