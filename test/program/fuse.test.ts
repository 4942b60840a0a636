import { describe, expect, test } from 'vitest';
import { fuse, fusiblePool, stepLabel } from '../../src/program/fuse.js';
import type { Layer } from '../../src/program/layers.js';
import { program } from '../support/kernel.js';

/* Which layers become one step, by the names of `program`: conv2d0, batchNorm2d1, relu2, … */

const CHAIN: readonly Layer[] = program(
  { op: 'conv2d', inChannels: 3, outChannels: 4 },
  { op: 'batchNorm2d', channels: 4 },
  { op: 'relu' },
  { op: 'maxPool2d' },
  { op: 'flatten' },
  { op: 'linear', inFeatures: 4, outFeatures: 4 },
  { op: 'relu' },
  { op: 'dropout', p: 0.5 },
  { op: 'softmax' },
);

const labels = (outputs: readonly string[], mode: 'eval' | 'train' = 'eval'): string[] =>
  fuse(CHAIN, outputs, mode).map((step) => stepLabel(step, step.names));

describe('fuse', () => {
  test('in eval mode everything that can be one is one', () => {
    const steps = ['conv2d0+relu2', 'maxPool2d3', 'flatten4', 'linear5+relu6+dropout7', 'softmax8'];
    expect(labels(['softmax8'])).toEqual(steps);
    expect(fuse(CHAIN, ['softmax8'], 'eval')[0]).toMatchObject({ index: 0, relu: true, batchNorm: CHAIN[1] });
  });

  test('in train mode batch norm and dropout are steps of their own', () => {
    const steps = ['conv2d0', 'batchNorm2d1+relu2', 'maxPool2d3', 'flatten4', 'linear5+relu6', 'dropout7', 'softmax8'];
    expect(labels(['softmax8'], 'train')).toEqual(steps);
  });

  test('what is asked for is not fused away, and layers after the last output are left out', () => {
    expect(labels(['conv2d0', 'maxPool2d3'])).toEqual(['conv2d0', 'batchNorm2d1+relu2', 'maxPool2d3']);
    expect(labels(['batchNorm2d1', 'relu2'])).toEqual(['conv2d0+batchNorm2d1', 'relu2']);
    expect(labels(['linear5'])).toEqual(['conv2d0+relu2', 'maxPool2d3', 'flatten4', 'linear5']);
  });

  test('an output that no layer has is an error with the nearest names', () => {
    expect(() => fuse(CHAIN, ['relu3'], 'eval')).toThrow(
      expect.objectContaining({ code: 'UNKNOWN_LAYER', message: expect.stringContaining('nearest: relu2') }),
    );
  });
});

describe('fusiblePool', () => {
  const pools = (outputs: readonly string[]): (string | undefined)[] => {
    const steps = fuse(CHAIN, outputs, 'eval');
    return steps.map((_, i) => fusiblePool(steps, i)?.layer.name);
  };

  test('is the pool right after a convolution, whatever is fused into that', () => {
    expect(pools(['maxPool2d3'])).toEqual(['maxPool2d3', undefined]);
  });

  test('is none where the output before the pool was asked for', () => {
    expect(pools(['relu2', 'maxPool2d3'])).toEqual([undefined, undefined]);
  });

  test('is none where the pool is not run, or comes after another layer', () => {
    expect(pools(['relu2'])).toEqual([undefined]);
    const steps = fuse(program({ op: 'relu' }, { op: 'maxPool2d' }), ['maxPool2d1'], 'eval');
    expect(fusiblePool(steps, 0)).toBeUndefined();
  });

  test('gives the step of both its label', () => {
    const steps = fuse(CHAIN, ['maxPool2d3'], 'eval');
    const pool = fusiblePool(steps, 0);
    expect(stepLabel(steps[0] as (typeof steps)[0], pool?.names ?? [])).toBe('conv2d0+maxPool2d3');
  });
});
