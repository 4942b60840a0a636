import { describe, expect, test } from 'vitest';
import { resolveConfig } from '../../src/model/config.js';
import { parametersOf } from '../../src/program/layers.js';
import { createLayers, MODEL_NAMES } from '../../src/vgg.js';
import { type NamingScheme, namingOf, rename, renamedShape, toCanonical } from '../../src/weights/naming.js';

const SCHEMES: readonly NamingScheme[] = ['torchvision', 'timm', 'lesson'];

/** The naming of a file with tensors of these names. */
const recognize = (names: readonly string[]) => namingOf(names.map((name) => ({ name })));

describe('naming', () => {
  test.each(SCHEMES)('%s: every parameter goes there and back', (scheme) => {
    for (const model of MODEL_NAMES) {
      const names = createLayers(resolveConfig(model))
        .flatMap(parametersOf)
        .map((spec) => spec.name);
      for (const prefix of ['', 'module.'] as const) {
        const renamed = names.map((name) => `${prefix}${rename(name, scheme)}`);
        expect(recognize(renamed)).toEqual({ scheme, prefix });
        expect(renamed.map((name) => toCanonical(name, { scheme, prefix }))).toEqual(names);
      }
    }
  });

  test('the names are those of the three projects', () => {
    const of = (name: string): string[] => SCHEMES.map((scheme) => rename(name, scheme));
    expect(of('features.28.weight')).toEqual(['features.28.weight', 'features.28.weight', 'conv_layers.28.weight']);
    expect(of('classifier.0.bias')).toEqual(['classifier.0.bias', 'pre_logits.fc1.bias', 'fcs.0.bias']);
    expect(of('classifier.3.weight')).toEqual(['classifier.3.weight', 'pre_logits.fc2.weight', 'fcs.3.weight']);
    expect(of('classifier.6.weight')).toEqual(['classifier.6.weight', 'head.fc.weight', 'fcs.6.weight']);
    expect(of('features.1.num_batches_tracked')[2]).toBe('conv_layers.1.num_batches_tracked');
  });

  test("timm's shapes", () => {
    const shape = (name: string, from: number[]): readonly number[] => renamedShape(name, from, 'timm', 7);
    expect(shape('classifier.0.weight', [4096, 25088])).toEqual([4096, 512, 7, 7]);
    expect(shape('classifier.3.weight', [4096, 4096])).toEqual([4096, 4096, 1, 1]);
    expect(shape('classifier.6.weight', [1000, 4096])).toEqual([1000, 4096]);
    expect(shape('classifier.0.bias', [4096])).toEqual([4096]);
    expect(renamedShape('classifier.0.weight', [4096, 25088], 'lesson', 7)).toEqual([4096, 25088]);
  });

  test.each([
    'classifier.1.weight',
    'classifier.0.running_mean',
    'features.weight',
    'features.0.weight.x',
    'features.x.weight',
    'features.0.weightx',
    'xfeatures.0.weight',
    'module.features.0.weight',
    'constructor',
    '',
  ])('%s is no tensor of a VGG', (name) => {
    expect(toCanonical(name, { scheme: 'torchvision', prefix: '' })).toBeUndefined();
    if (!name.startsWith('module.')) expect(recognize([name])).toBeUndefined();
  });

  test('the naming of most names is taken', () => {
    const naming = recognize(['features.0.weight', 'features.0.bias', 'head.fc.weight', 'classifier.9.weight']);
    expect(naming).toEqual({ scheme: 'timm', prefix: '' });
    expect(recognize(['features.0.weight'])).toEqual({ scheme: 'torchvision', prefix: '' });
    expect(recognize([])).toBeUndefined();
  });
});
