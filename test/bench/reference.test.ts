import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { compareLogits, goldenReference, type Reference } from '../../bench/src/reference.js';
import { positions } from '../support/golden.js';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const reference: Reference = {
  name: 'a test',
  images: [
    { indices: [0, 2], values: [1, 10] },
    { indices: [0, 2], values: [-1, 0] },
  ],
};

describe('logits against a reference', () => {
  test('the largest distance, over all images of the batch', () => {
    const logits = Float32Array.of(1, 99, 10, -1, 99, 0.00005);
    expect(compareLogits(logits, 2, reference).error).toBeCloseTo(5e-5, 10);
    expect(compareLogits(logits, 2, reference).wrong).toBe(false);
    expect(compareLogits(logits.slice(0, 3), 1, reference)).toEqual({ error: 0, wrong: false });
  });

  test('wrong beyond 1e-4 + 1e-4 · |expected|', () => {
    expect(compareLogits(Float32Array.of(1, 0, 10.001), 1, reference).wrong).toBe(false);
    expect(compareLogits(Float32Array.of(1, 0, 10.0012), 1, reference).wrong).toBe(true);
    expect(compareLogits(Float32Array.of(1.0003, 0, 10), 1, reference).wrong).toBe(true);
  });

  test('NaN, and too few or too many logits, are infinitely wrong', () => {
    expect(compareLogits(Float32Array.of(Number.NaN, 0, 10), 1, reference)).toEqual({ error: Infinity, wrong: true });
    expect(compareLogits(Float32Array.of(1, 0), 1, reference)).toEqual({ error: Infinity, wrong: true });
    expect(compareLogits(Float32Array.of(1, 0, 10, 0, 0), 2, reference)).toEqual({ error: Infinity, wrong: true });
  });

  test('more images than the reference has are compared as far as it goes', () => {
    expect(compareLogits(Float32Array.of(1, 0, 10, -1, 0, 0, 7, 7, 7), 3, reference).wrong).toBe(false);
  });
});

describe('PyTorch’s logits', () => {
  test('are found for the networks and the size that are measured', () => {
    for (const model of ['vgg11', 'vgg16', 'vgg16_bn', 'vgg19_bn']) {
      expect(goldenReference(repository, model, 224)?.images, model).toHaveLength(3);
    }
    expect(goldenReference(repository, 'vgg16', 224)?.images[0]?.indices).toEqual(positions(1000, 64));
    expect(goldenReference(repository, 'vgg16', 225)).toBeUndefined();
    expect(goldenReference(repository, 'vgg17', 224)).toBeUndefined();
  });
});
