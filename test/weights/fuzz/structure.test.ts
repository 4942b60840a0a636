import { describe, expect, test } from 'vitest';
import { fixture } from '../fixtures.js';
import { formatsOf, makeCase, runCase } from './cases.js';

/* A few of the cases that `npm run fuzz` runs, with a seed of their own. */

const CASES = 2000;
const SEED = 20_260_102;
const formats = await formatsOf(fixture);

describe('files whose structure was changed give weights or a typed error', () => {
  test.each(Object.entries(formats))('%s', { timeout: 120_000 }, async (_, make) => {
    const outcomes = new Set<string>();
    for (let index = 0; index < CASES / 6; index++) outcomes.add(await runCase(makeCase(make, SEED, index), index));
    // Some changes do no harm: so it is seen that the reader gets past its first checks.
    expect(outcomes).toContain('read');
    expect(outcomes).toContain('INVALID_WEIGHTS_FILE');
  });
});
