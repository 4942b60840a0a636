import { describe, expect, test } from 'vitest';
import { layerIndex, layerNamed } from '../../src/program/names.js';
import { program } from '../support/kernel.js';

const LAYERS = program(
  { op: 'conv2d', inChannels: 3, outChannels: 4 },
  { op: 'linear', inFeatures: 4, outFeatures: 4 },
  { op: 'linear', inFeatures: 4, outFeatures: 5 },
  { op: 'softmax' },
);

describe('layerNamed', () => {
  test('takes a name, and logits for the last linear layer', () => {
    expect(layerNamed(LAYERS, 'linear1')).toBe(LAYERS[1]);
    expect(layerNamed(LAYERS, 'logits')).toBe(LAYERS[2]);
  });

  test('says that there are no logits without a classifier', () => {
    const features = program({ op: 'conv2d', inChannels: 3, outChannels: 4 }, { op: 'maxPool2d' });
    for (const name of ['logits', 'prob']) {
      expect(() => layerNamed(features, name)).toThrow('no classifier, and its last layer is maxPool2d1');
    }
  });

  test.each(['linear9', 'constructor', ''])('refuses %j with the nearest names', (name) => {
    expect(() => layerNamed(LAYERS, name)).toThrow(
      expect.objectContaining({ code: 'UNKNOWN_LAYER', message: expect.stringContaining('nearest: ') }),
    );
  });
});

test('layerIndex takes the very name alone', () => {
  expect(layerIndex(LAYERS, 'linear2')).toBe(2);
  expect(() => layerIndex(LAYERS, 'logits')).toThrow(expect.objectContaining({ code: 'UNKNOWN_LAYER' }));
});
