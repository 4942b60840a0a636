import { type Architecture, type CreateOptions, Tensor, VGGNet, VGGNetError, type VGGNetErrorCode } from 'vggnet';
import { expect } from 'vitest';
import { stopwatch } from './stopwatch.js';

/* A network of the built package that is made in milliseconds, and what its tests ask again and again. */

export const LIST: Architecture = [8, 'M', 16, 'M'];
export const OPTIONS: CreateOptions = { numClasses: 10, hiddenFeatures: 16, poolSize: 2 };

/** Side of the input of `smallInput`. */
export const SIDE = 12;

export function createSmall(options: CreateOptions = {}): Promise<VGGNet> {
  return VGGNet.create(LIST, { ...OPTIONS, ...options });
}

export function smallInput(batch = 1, seed = 1): Tensor {
  return Tensor.randn([batch, 3, SIDE, SIDE], { seed });
}

/** One image of a batch. */
export function imageOf(batch: Tensor, index: number): Tensor {
  const size = batch.size / (batch.shape[0] as number);
  return new Tensor(batch.data.slice(index * size, (index + 1) * size), [1, ...batch.shape.slice(1)]);
}

/** A case of a table for `expectRefused`. */
export type Refusal = readonly [
  what: string,
  code: VGGNetErrorCode,
  parts: readonly (string | RegExp)[],
  run: () => unknown,
];

/** Milliseconds in which bad input is refused. */
const PATIENCE_MS = 1000;

/**
 * Runs what must be refused, and checks that it is: by a typed error of this code, whose message has all the parts,
 * within a second.
 */
export async function expectRefused(
  run: () => unknown,
  code: VGGNetErrorCode,
  ...parts: (string | RegExp)[]
): Promise<VGGNetError> {
  const elapsed = stopwatch();
  let error: unknown;
  try {
    await run();
  } catch (thrown) {
    error = thrown;
  }
  const ms = elapsed();
  if (!(error instanceof VGGNetError)) {
    return expect.fail(`expected a VGGNetError ${code}, got ${error === undefined ? 'no error' : String(error)}`);
  }
  expect({ code: error.code, message: error.message }).toMatchObject({ code });
  for (const part of parts) expect(error.message).toMatch(part);
  expect(ms, 'milliseconds until it was refused').toBeLessThan(PATIENCE_MS);
  return error;
}

/** The bits, so that -0 and 0, and NaN and NaN, are told apart as a user of the bytes would. */
export function bitsOf(tensor: Tensor): number[] {
  return [...new Uint32Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.length)];
}

/** Reads a stream to its end. */
export async function bytesOf(stream: ReadableStream<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  return new Uint8Array(await new Response(stream as ReadableStream<Uint8Array<ArrayBuffer>>).arrayBuffer());
}
