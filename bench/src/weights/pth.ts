import type { ParameterSpec } from '../../../src/program/layers.js';
import { numel } from '../../../src/tensor.js';
import { legacy, ordered, storage, tensor, text } from '../../../test/weights/pickle-writer.js';

/** A PyTorch checkpoint, in the format that the official files of VGG have, tensor by tensor. */
export function* checkpoint(
  parameters: readonly ParameterSpec[],
  values: (name: string) => Float32Array,
): Generator<Uint8Array> {
  const tensors = parameters.map(({ name, shape }, key) => {
    const strides = shape.map((_, i) => numel(shape.slice(i + 1)));
    return [text(name), tensor(storage(String(key), numel(shape)), shape, strides)] as const;
  });
  yield legacy(ordered(...tensors), {}, { keys: parameters.map((_, key) => String(key)) });
  for (const { name, shape } of parameters) {
    yield new Uint8Array(BigUint64Array.of(BigInt(numel(shape))).buffer);
    yield new Uint8Array(values(name).buffer);
  }
}
