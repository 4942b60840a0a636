import { describe, expect, test } from 'vitest';
import { NETWORK_BACKENDS } from './support/backends.js';
import { type GeneratedKind, generatedTensor } from './support/generated.js';
import { positions, readGolden } from './support/golden.js';
import { testNetworks } from './support/networks.js';

interface GeneratedCase {
  readonly name: string;
  readonly shape: readonly number[];
  readonly kind: GeneratedKind;
  readonly values: readonly number[];
  /** Sum of the bit patterns, modulo 2^32. */
  readonly bits: number;
}

describe('the generator makes the numbers that PyTorch was given', () => {
  test.each(readGolden<GeneratedCase>('generated'))('$name as $kind', ({ name, shape, kind, values, bits }) => {
    const { data } = generatedTensor(name, shape, kind);
    expect(positions(data.length, values.length).map((index) => data[index])).toEqual(values.map(Math.fround));
    let sum = 0;
    for (const pattern of new Uint32Array(data.buffer)) sum = (sum + pattern) % 2 ** 32;
    expect(sum).toBe(bits);
  });
});

// The slow ones are in networks-slow.test.ts, so that the two files run side by side.
testNetworks(NETWORK_BACKENDS.filter(({ slow }) => !slow));
