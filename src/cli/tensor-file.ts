import { VGGNetError } from '../errors.js';
import { nearest } from '../nearest.js';
import { formatShape, Tensor } from '../tensor.js';
import { openWeights } from '../weights/open.js';
import type { WeightEntry } from '../weights/source.js';
import { UsageError } from './failure.js';

/**
 * Reads one float32 tensor of a safetensors file: the only one, or the one named.
 * @throws UsageError if there are several and none is named, or none of that name; VGGNetError `INVALID_DTYPE`,
 * `INVALID_SHAPE`, and as `openWeights`
 */
export async function readTensor(file: string, name: string | undefined, signal: AbortSignal): Promise<Tensor> {
  const source = await openWeights(file, { signal });
  try {
    const entry = chooseEntry(source.entries, name, file);
    if (entry.dtype !== 'F32') {
      throw new VGGNetError('INVALID_DTYPE', `${file}: tensor '${entry.name}' must be F32, got ${entry.dtype}`);
    }
    if (entry.shape.length !== 4) {
      throw new VGGNetError(
        'INVALID_SHAPE',
        `${file}: tensor '${entry.name}' must be (N, C, H, W), got ${formatShape(entry.shape)}`,
      );
    }
    const tensor = Tensor.zeros(entry.shape);
    for await (const { offset, data } of source.chunks(new Set([entry.name]), signal)) tensor.data.set(data, offset);
    return tensor;
  } finally {
    await source.close();
  }
}

function chooseEntry(entries: readonly WeightEntry[], name: string | undefined, file: string): WeightEntry {
  const names = entries.map((entry) => entry.name);
  if (name !== undefined) {
    const found = entries.find((entry) => entry.name === name);
    if (found) return found;
    throw new UsageError(`${file} has no tensor '${name}'; nearest: ${nearest(name, names).join(', ') || 'none'}`);
  }
  const [first] = entries;
  if (!first) throw new VGGNetError('INVALID_WEIGHTS_FILE', `${file}: expected a tensor, got a file without any`);
  if (entries.length === 1) return first;
  const shown = names.slice(0, 10).join(', ');
  throw new UsageError(
    `${file} has ${names.length} tensors; choose one by --tensor: ${shown}${names.length > 10 ? ', …' : ''}`,
  );
}
