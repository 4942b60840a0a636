import type { ParameterChunk, ParameterStream } from '../backend.js';
import { throwIfAborted, VGGNetError } from '../errors.js';
import { type Layer, parametersOf } from '../program/layers.js';
import { formatShape, numel } from '../tensor.js';

/** One parameter's values, and which of them have come. */
interface Slot {
  readonly data: Float32Array;
  readonly shape: readonly number[];
  /** Runs of values that came, in no order, never overlapping. */
  readonly filled: { start: number; end: number }[];
}

/**
 * Reads a stream into one array a parameter. Chunks may come in any order.
 * @throws VGGNetError `WEIGHTS_MISMATCH` for a parameter that the layers do not have, or one that never
 * comes; `INVALID_WEIGHTS_FILE` for values that come twice, lie outside the parameter, or are missing from
 * its middle or end; `INVALID_DTYPE`; `ABORTED`; or whatever the stream throws
 */
export async function readParameters(
  layers: readonly Layer[],
  stream: ParameterStream,
  signal?: AbortSignal,
): Promise<Map<string, Float32Array>> {
  throwIfAborted(signal);
  const slots = new Map<string, Slot>();
  for (const { name, shape } of layers.flatMap(parametersOf)) {
    slots.set(name, { data: new Float32Array(numel(shape)), shape, filled: [] });
  }
  for await (const chunk of stream) {
    throwIfAborted(signal);
    place(chunk, slots);
  }
  throwIfAborted(signal);
  for (const [name, slot] of slots) checkComplete(name, slot);
  return new Map([...slots].map(([name, { data }]) => [name, data]));
}

function place({ name, offset, data }: ParameterChunk, slots: ReadonlyMap<string, Slot>): void {
  const slot = slots.get(name);
  if (!slot) {
    throw new VGGNetError(
      'WEIGHTS_MISMATCH',
      `Unexpected parameter '${name}'; this network has ${slots.size} parameters: ${[...slots.keys()].slice(0, 4).join(', ')}, …`,
    );
  }
  if (!(data instanceof Float32Array)) {
    throw new VGGNetError('INVALID_DTYPE', `${name}: expected a Float32Array, got ${typeof data}`);
  }
  const end = offset + data.length;
  if (!Number.isInteger(offset) || offset < 0 || end > slot.data.length) {
    throw new VGGNetError(
      'INVALID_WEIGHTS_FILE',
      `${name}: shape ${formatShape(slot.shape)} has ${slot.data.length} values, got values ${offset} to ${end}`,
    );
  }
  if (data.length === 0) return;
  if (slot.filled.some((run) => offset < run.end && run.start < end)) {
    throw new VGGNetError('INVALID_WEIGHTS_FILE', `${name}: values ${offset} to ${end} came twice in part or whole`);
  }
  slot.data.set(data, offset);
  // Chunks nearly always follow one another, so the list stays at one run.
  const before = slot.filled.find((run) => run.end === offset);
  if (before) before.end = end;
  else slot.filled.push({ start: offset, end });
}

function checkComplete(name: string, { data, shape, filled }: Slot): void {
  const got = filled.reduce((sum, run) => sum + run.end - run.start, 0);
  if (got === data.length) return;
  const expected = `expected ${data.length} values of shape ${formatShape(shape)}`;
  if (got === 0) throw new VGGNetError('WEIGHTS_MISMATCH', `Missing parameter '${name}': ${expected}, got none`);
  throw new VGGNetError('INVALID_WEIGHTS_FILE', `${name}: ${expected}, got ${got}`);
}
