import { VGGNetError } from '../errors.js';
import { Tensor } from '../tensor.js';
import type { AnyTensor, Network } from './network.js';
import type { OnGPU } from './options.js';

/** The outputs of layers by the names asked for; each name gets a tensor of its own. */
export async function features<Name extends string>(
  network: Network,
  input: AnyTensor,
  names: readonly Name[],
  options: Partial<OnGPU>,
): Promise<Record<Name, AnyTensor>> {
  network.checkLive();
  if (!Array.isArray(names) || names.length === 0) {
    throw new VGGNetError('INVALID_ARGUMENT', "features needs a list of layer names, such as ['relu3_3']");
  }
  const outputs = await network.run(input, names, options);
  // Names of one layer share its output.
  const own = outputs.map((output, i) => {
    if (!(output instanceof Tensor)) return output;
    const first = outputs.findIndex((other) => other instanceof Tensor && other.data === output.data);
    return first === i ? output : new Tensor(output.data.slice(), output.shape);
  });
  return Object.fromEntries(names.map((name, i) => [name, own[i]])) as Record<Name, AnyTensor>;
}
