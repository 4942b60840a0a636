import { expect } from 'vitest';
import { formatShape } from '../../src/tensor.js';

/** |actual − expected| may be up to atol + rtol · |expected|. */
export interface Tolerance {
  readonly atol: number;
  readonly rtol: number;
}

export interface CloseOptions extends Tolerance {
  /** The operation and backend, for the message: `conv2d on wasm`. */
  readonly what: string;
  /** Of the values, for the message and to write the index as coordinates. */
  readonly shape?: readonly number[];
}

/** Every value within the tolerance; NaN equals NaN, and an infinity only itself. */
export function expectClose(actual: ArrayLike<number>, expected: ArrayLike<number>, options: CloseOptions): void {
  const { atol, rtol, what, shape = [expected.length] } = options;
  expect(actual.length, `${what}: number of values for shape ${formatShape(shape)}`).toBe(expected.length);
  let wrong = 0;
  let worst = 0;
  let worstBy = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < expected.length; i++) {
    const excess = excessOf(actual[i] as number, expected[i] as number, { atol, rtol });
    if (excess <= 0) continue;
    wrong++;
    if (excess > worstBy) {
      worst = i;
      worstBy = excess;
    }
  }
  if (wrong === 0) return;
  const a = actual[worst] as number;
  const e = expected[worst] as number;
  expect.fail(
    `${what}, shape ${formatShape(shape)}: ${wrong} of ${expected.length} values are off; the worst at ` +
      `${formatShape(coordinates(worst, shape))}: got ${a}, expected ${e} (off by ${Math.abs(a - e)}, ` +
      `allowed ${atol} + ${rtol} · |expected|)`,
  );
}

/** How far over the tolerance; 0 or less is within it. */
function excessOf(a: number, e: number, { atol, rtol }: Tolerance): number {
  if (Object.is(a, e) || a === e) return 0;
  if (!Number.isFinite(a) || !Number.isFinite(e)) return Number.isNaN(a) && Number.isNaN(e) ? 0 : Infinity;
  return Math.abs(a - e) - (atol + rtol * Math.abs(e));
}

function coordinates(index: number, shape: readonly number[]): number[] {
  let rest = index;
  return shape
    .toReversed()
    .map((size) => {
      const at = rest % size;
      rest = Math.floor(rest / size);
      return at;
    })
    .reverse();
}
