import { expect } from 'vitest';
import { VGGNetError, type VGGNetErrorCode } from '../../src/errors.js';
import type { WeightsInput } from '../../src/weights/bytes/bytes.js';
import { openWeights } from '../../src/weights/open.js';
import { stopwatch } from '../support/stopwatch.js';
import { floatsOf } from './fixtures.js';
import { streamOf } from './rawfile.js';

/** Milliseconds in which bad input is refused. */
const PATIENCE_MS = 1000;

async function errorOf(input: WeightsInput): Promise<VGGNetError> {
  try {
    await floatsOf(await openWeights(input));
  } catch (error) {
    if (error instanceof VGGNetError) return error;
    throw error;
  }
  throw new Error('it was read');
}

/** What must be refused, from memory and from a stream, where it may show at another place. */
export async function expectBad(
  bytes: Uint8Array<ArrayBuffer>,
  message: RegExp,
  { code = 'INVALID_WEIGHTS_FILE', stream = /./ }: { code?: VGGNetErrorCode; stream?: RegExp } = {},
): Promise<void> {
  const elapsed = stopwatch();
  const error = await errorOf(bytes);
  expect(elapsed()).toBeLessThan(PATIENCE_MS);
  expect({ code: error.code, message: error.message }).toEqual({ code, message: expect.stringMatching(message) });
  if (code === 'INVALID_WEIGHTS_FILE') expect(error.message).toMatch(/^the bytes: /);
  const streamed = await errorOf(streamOf(bytes, 1000));
  expect({ code: streamed.code, message: streamed.message }).toEqual({ code, message: expect.stringMatching(stream) });
}
