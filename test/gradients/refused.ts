import { expect } from 'vitest';
import { VGGNetError, type VGGNetErrorCode } from '../../src/errors.js';

/** Runs what must be refused, and checks that it is by a typed error of this code, whose message has all the parts. */
export async function expectRefused(
  run: () => unknown,
  code: VGGNetErrorCode,
  ...parts: readonly (string | RegExp)[]
): Promise<void> {
  let error: unknown;
  try {
    await run();
  } catch (thrown) {
    error = thrown;
  }
  if (!(error instanceof VGGNetError)) {
    expect.fail(`expected a VGGNetError ${code}, got ${error === undefined ? 'no error' : String(error)}`);
  }
  expect({ code: error.code, message: error.message }).toMatchObject({ code });
  for (const part of parts) expect(error.message).toMatch(part);
}
