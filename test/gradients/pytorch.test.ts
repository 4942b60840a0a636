import { describe, test } from 'vitest';
import type { Backend } from '../../src/backend.js';
import { createReferenceBackend } from '../../src/reference/backend.js';
import { createWasmBackend } from '../../src/wasm/backend.js';
import { readGolden } from '../support/golden.js';
import { expectGradients, type GradientCase } from '../support/gradients.js';

/*
 * Gradients of small networks against PyTorch's in float64. Values are float32 from layer to layer, which is a few 1e-7
 * each, and on WebAssembly so are the sums; none is so near a kink that this moves a ReLU or the maximum of a pool.
 */

const BACKENDS: readonly (readonly [string, number, () => Backend])[] = [
  ['the reference', 1e-5, createReferenceBackend],
  ['WebAssembly', 1e-4, () => createWasmBackend({ inline: true, reason: 'asked for by a test' })],
  [
    'WebAssembly, direct',
    1e-4,
    () => createWasmBackend({ inline: true, winograd: false, reason: 'asked for by a test' }),
  ],
  ['WebAssembly, F(4×4)', 1e-4, () => createWasmBackend({ inline: true, winograd: 4, reason: 'asked for by a test' })],
  ['WebAssembly, F(6×6)', 1e-4, () => createWasmBackend({ inline: true, winograd: 6, reason: 'asked for by a test' })],
];

describe.each(BACKENDS)('on %s', (_, tolerance, create) => {
  test.each(readGolden<GradientCase>('gradients').map((golden) => [golden.name, golden] as const))('%s', (_, golden) =>
    expectGradients(create(), golden, tolerance),
  );
});
