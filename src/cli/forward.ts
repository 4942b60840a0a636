import type { DeviceName } from '../model/options.js';
import type { Layer } from '../program/layers.js';
import { layerNamed } from '../program/names.js';
import { inferShapes } from '../program/shape.js';
import { formatShape, type Tensor } from '../tensor.js';
import type { InitScheme } from '../weights/init.js';
import { saveFile } from '../weights/save-file.js';
import { writeSafetensors } from '../weights/write.js';
import { checkUsage, UsageError } from './failure.js';
import { chooseModel, describeModel, isRemote, loadModel, type ModelChoice } from './model.js';
import { formatDevice, formatMs, print, printable } from './output.js';
import { readTensor } from './tensor-file.js';

export interface ForwardFlags {
  readonly model?: string;
  readonly weights?: string;
  readonly input: string;
  readonly output: string;
  readonly tensor?: string;
  readonly layers: readonly string[];
  readonly seed?: number;
  readonly init?: InitScheme;
  readonly device: DeviceName;
}

/** `vggnet forward`: a tensor out of a file through the network, and the outputs of layers into another file. */
export async function forward(flags: ForwardFlags, signal: AbortSignal): Promise<number> {
  const choice = chooseModel(flags);
  refuseSeed(choice, flags);
  const input = await readTensor(flags.input, flags.tensor, signal);
  // Before the weights are read, unless that would take a second download.
  if (!isRemote(choice)) check((await describeModel(choice, signal)).layers, flags.layers, input);
  const { device, seed, init } = flags;
  const { model, loadMs } = await loadModel(choice, { device, seed, init, signal });
  try {
    check(model.layers, flags.layers, input);
    const start = performance.now();
    const taps = await model.features(input, flags.layers, { signal });
    const forwardMs = performance.now() - start;
    const outputs = new Map(flags.layers.map((name) => [name, taps[name] as Tensor]));
    const entries = [...outputs].map(([name, { shape }]) => ({ name, shape }));
    const stream = writeSafetensors(entries, (name) => (outputs.get(name) as Tensor).data, { signal });
    await saveFile(flags.output, stream, { signal });
    const times = `loaded in ${formatMs(loadMs)}, forward ${formatMs(forwardMs)}`;
    print(printable(`${model.config.name} on ${formatDevice(model.device)}, ${times}`));
    for (const { name, shape } of entries) print(printable(`${flags.output}: ${name} ${formatShape(shape)}`));
    return 0;
  } finally {
    model.dispose();
  }
}

function check(layers: readonly Layer[], names: readonly string[], input: Tensor): void {
  for (const name of names) checkUsage(() => layerNamed(layers, name));
  inferShapes(layers, input.shape);
}

function refuseSeed(choice: ModelChoice, { seed, init }: ForwardFlags): void {
  if (seed === undefined && init === undefined) return;
  if (choice.kind === 'network' && choice.weights === undefined) return;
  throw new UsageError('--seed and --init make random weights, and here the weights come from a file');
}
