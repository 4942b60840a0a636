import { expect, test } from 'vitest';
import { inferShapes, leastSide } from '../../src/program/shape.js';
import { program } from '../support/kernel.js';

const LAYERS = program(
  { op: 'conv2d', inChannels: 3, outChannels: 4 },
  { op: 'batchNorm2d', channels: 4 },
  { op: 'maxPool2d' },
  { op: 'adaptiveAvgPool2d', outputSize: 2 },
  { op: 'flatten' },
  { op: 'linear', inFeatures: 16, outFeatures: 5 },
);

test('every layer has its shape', () => {
  const shapes = [
    [2, 4, 7, 6],
    [2, 4, 7, 6],
    [2, 4, 3, 3],
    [2, 4, 2, 2],
    [2, 16],
    [2, 5],
  ];
  expect(inferShapes(LAYERS, [2, 3, 7, 6])).toEqual(shapes);
  expect(leastSide(LAYERS)).toBe(2);
});

test.each([
  [[2, 4, 7, 6], 'conv2d0: expected 3 channels, (N, 3, H, W), got [2, 4, 7, 6]'],
  [[2, 3, 7], 'conv2d0: expected an input of shape (N, 3, H, W), got [2, 3, 7]'],
  [[2, 3, 1, 6], 'at least 2×2'],
  [[0, 3, 7, 6], 'Expected a batch of at least 1'],
])('%j is refused, with what was expected and where', (shape, message) => {
  expect(() => inferShapes(LAYERS, shape)).toThrow(
    expect.objectContaining({ code: 'INVALID_SHAPE', message: expect.stringContaining(message) }),
  );
});

test('in train mode batch norm needs more than one value per channel', () => {
  const norm = program({ op: 'batchNorm2d', channels: 4 });
  expect(inferShapes(norm, [1, 4, 1, 1])).toEqual([[1, 4, 1, 1]]);
  expect(inferShapes(norm, [2, 4, 1, 1], 'train')).toEqual([[2, 4, 1, 1]]);
  expect(() => inferShapes(norm, [1, 4, 1, 1], 'train')).toThrow(
    'batchNorm2d0: expected more than 1 value per channel in train mode, got [1, 4, 1, 1]',
  );
});
