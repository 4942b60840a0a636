import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { resolveConfig } from '../../src/model/config.js';
import { parametersOf } from '../../src/program/layers.js';
import { type Architecture, createLayers, MODEL_NAMES, type VGGConfig } from '../../src/vgg.js';
import { inferConfig } from '../../src/weights/infer.js';
import { type NamingScheme, rename, renamedShape } from '../../src/weights/naming.js';
import type { WeightEntry } from '../../src/weights/source.js';

function entriesOf(config: VGGConfig, scheme: NamingScheme = 'torchvision', prefix = ''): WeightEntry[] {
  return createLayers(config)
    .flatMap(parametersOf)
    .map(({ name, shape }) => ({
      name: prefix + rename(name, scheme),
      shape: renamedShape(name, shape, scheme, config.poolSize),
      dtype: 'F32',
    }));
}

describe('inferConfig', () => {
  test.each(MODEL_NAMES)('%s', (name) => {
    const config = resolveConfig(name, { numClasses: 10 });
    for (const scheme of ['torchvision', 'timm', 'lesson'] as const) {
      expect(inferConfig(entriesOf(config, scheme, scheme === 'lesson' ? 'module.' : ''))).toEqual(config);
    }
  });

  test('any network that ends with a pool, in any order of its tensors', () => {
    const entry = fc.oneof(fc.integer({ min: 1, max: 9 }), fc.constant('M' as const));
    const size = fc.integer({ min: 1, max: 5 });
    fc.assert(
      fc.property(
        fc.array(entry, { maxLength: 8 }),
        fc.record({
          inChannels: size,
          numClasses: size,
          hiddenFeatures: size,
          poolSize: size,
          batchNorm: fc.boolean(),
        }),
        fc.infiniteStream(fc.nat()),
        (list, options, order) => {
          const config = resolveConfig([...list, 7, 'M'] as Architecture, options);
          const keyed = entriesOf(config).map((item) => [order.next().value, item] as const);
          const shuffled = keyed.sort(([a], [b]) => a - b).map(([, item]) => item);
          expect(inferConfig(shuffled)).toEqual(config);
        },
      ),
      { numRuns: 300 },
    );
  });

  const config = resolveConfig([4, 'M', 8, 'M'], { hiddenFeatures: 6, numClasses: 5, poolSize: 2 });
  const with_ = (changes: Record<string, readonly number[] | undefined>): WeightEntry[] => [
    ...entriesOf(config).filter(({ name }) => !(name in changes)),
    ...Object.entries(changes).flatMap(([name, shape]) => (shape ? [{ name, shape, dtype: 'F32' }] : [])),
  ];

  test.each<[string, WeightEntry[], RegExp]>([
    ['nothing', [], /no tensor has a name/],
    ['another network', [{ name: 'conv1.weight', shape: [1], dtype: 'F32' }], /no tensor has a name/],
    ['no convolution', with_({ 'features.0.weight': undefined, 'features.4.weight': undefined }), /no convolution/],
    ['a 5×5 convolution', with_({ 'features.0.weight': [4, 3, 5, 5] }), /'features.0.weight': expected a 3×3/],
    [
      'channels that do not fit',
      with_({ 'features.4.weight': [8, 5, 3, 3] }),
      /features.4: expected 4 input channels, got 5/,
    ],
    ['batch norm after some', with_({ 'features.5.running_mean': undefined }), /batch norm after every/],
    ['a number too small', with_({ 'features.2.weight': [4, 4, 3, 3] }), /features.2: expected a convolution at 3/],
    ['a number too large', with_({ 'features.999999999.weight': [4, 8, 3, 3] }), /features.999999999: expected/],
    ['no classifier', with_({ 'classifier.0.weight': undefined }), /there is no classifier.0.weight/],
    ['no head', with_({ 'classifier.6.weight': undefined }), /there is no classifier.6.weight/],
    ['no square', with_({ 'classifier.0.weight': [6, 24] }), /8 channels times a square/],
    ['no channels', with_({ 'features.4.weight': [0, 4, 3, 3] }), /0 channels times a square/],
  ])('%s is refused', (_, entries, message) => {
    expect(() => inferConfig(entries)).toThrow(
      expect.objectContaining({ code: 'WEIGHTS_MISMATCH', message: expect.stringMatching(message) }),
    );
  });

  test('sizes over the limits are refused', () => {
    expect(() => inferConfig(with_({ 'classifier.6.weight': [2e6, 6] }))).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
    expect(() => inferConfig(with_({ 'classifier.6.weight': [] }))).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
  });
});
