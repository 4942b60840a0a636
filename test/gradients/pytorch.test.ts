import { describe, test } from 'vitest';
import { createReferenceBackend } from '../../src/reference/backend.js';
import { readGolden } from '../support/golden.js';
import { expectGradients, type GradientCase } from '../support/gradients.js';

/*
 * Gradients of small networks against PyTorch's in float64. Values are float32 from layer to layer, which is a few 1e-7
 * each; none is so near a kink that this moves a ReLU or the maximum of a pool.
 */

describe('on the reference', () => {
  test.each(readGolden<GradientCase>('gradients').map((golden) => [golden.name, golden] as const))('%s', (_, golden) =>
    expectGradients(createReferenceBackend(), golden, 1e-5),
  );
});
