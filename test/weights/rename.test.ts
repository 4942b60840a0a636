import { describe, expect, test } from 'vitest';
import { resolveConfig } from '../../src/model/config.js';
import { createLayers } from '../../src/vgg.js';
import { matchWeights } from '../../src/weights/match.js';
import { openWeights } from '../../src/weights/open.js';
import { withPlainNames } from '../../src/weights/rename.js';
import { collect, countingSource } from './collect.js';
import { f32, rawFile } from './rawfile.js';

/* Names that are torchvision's in another wrapping. */

const CONFIG = resolveConfig([2, 'M', 3], {
  batchNorm: false,
  inChannels: 1,
  numClasses: 4,
  hiddenFeatures: 5,
  poolSize: 1,
});
const LAYERS = createLayers(CONFIG);
const SHAPES: Readonly<Record<string, number[]>> = {
  'features.0.weight': [2, 1, 3, 3],
  'features.0.bias': [2],
  'features.3.weight': [3, 2, 3, 3],
  'features.3.bias': [3],
  'classifier.0.weight': [5, 3],
  'classifier.0.bias': [5],
  'classifier.3.weight': [5, 5],
  'classifier.3.bias': [5],
  'classifier.6.weight': [4, 5],
  'classifier.6.bias': [4],
};
const NAMES = Object.keys(SHAPES);

type Rename = (name: string) => string;

function source(rename: Rename, names: readonly string[] = NAMES): ReturnType<typeof countingSource> {
  return countingSource(names.map((name) => ({ name: rename(name), shape: SHAPES[name] as number[] })));
}

const replacing =
  (...pairs: readonly (readonly [RegExp | string, string])[]): Rename =>
  (name) =>
    pairs.reduce((text, [from, to]) => text.replace(from, to), name);
const head = (...paths: readonly [string, string, string]): Rename =>
  replacing(['classifier.0', paths[0]], ['classifier.3', paths[1]], ['classifier.6', paths[2]]);

describe('names that are found', () => {
  test.each<[string, Rename]>([
    ['model.', (name) => `model.${name}`],
    ['module.', (name) => `module.${name}`],
    ['_orig_mod.', (name) => `_orig_mod.${name}`],
    ['nested prefixes', (name) => `module._orig_mod.net.backbone.${name}`],
    ['module within', replacing([/^(features|classifier)/, '$1.module'])],
    ['_orig_mod behind a prefix', (name) => `model._orig_mod.${name}`],
    [
      "the papers'",
      replacing(
        ['features.0', 'conv1_1'],
        ['features.3', 'conv2_1'],
        [/^cl.*0\./, 'fc6.'],
        [/^cl.*3\./, 'fc7.'],
        [/^cl.*6\./, 'fc8.'],
      ),
    ],
    [
      "the papers' under a prefix",
      (name) => `vgg.${replacing(['features.0', 'conv1_1'], ['features.3', 'conv2_1'])(name)}`,
    ],
    ['slices', replacing(['features.0', 'slice1.0'], ['features.3', 'slice2.3'])],
    ['a head of fc1 to fc3', head('fc1', 'fc2', 'fc3')],
    ['a head that is numbered otherwise', head('classifier.1', 'classifier.4', 'classifier.10')],
    ['a head of named layers under a prefix', (name) => `m.${head('head.fc1', 'head.fc2', 'head.fc3')(name)}`],
  ])('%s', async (_, rename) => {
    const plain = withPlainNames(source(rename));
    expect(plain.entries.map(({ name }) => name)).toEqual(NAMES);
    const match = matchWeights(plain, LAYERS);
    expect(match).toMatchObject({ missing: [], unexpected: [] });
    const values = await collect(match.stream());
    expect([...values.keys()]).toEqual(NAMES);
    expect(values.get('classifier.6.bias')).toEqual(new Float32Array([0, 1, 2, 3]));
  });

  test('in a file', async () => {
    const file = rawFile({ 'model.features.0.weight': f32([1, 1, 3, 3], 0, 36) }, 36);
    expect((await openWeights(file)).entries.map(({ name }) => name)).toEqual(['features.0.weight']);
  });

  test('others stay as they are, and closing closes the file', async () => {
    const own = countingSource([
      { name: 'model.features.0.weight', shape: [2, 1, 3, 3] },
      { name: 'decoder.weight', shape: [3] },
    ]);
    const plain = withPlainNames(own);
    expect(plain.entries.map(({ name }) => name)).toEqual(['features.0.weight', 'decoder.weight']);
    expect([...(await collect(plain.chunks(new Set(['decoder.weight'])))).keys()]).toEqual(['decoder.weight']);
    await plain.close();
    expect(own.closed).toBe(1);
    const foreign = countingSource([{ name: 'layer1.conv.weight', shape: [1] }]);
    expect(withPlainNames(foreign)).toBe(foreign);
  });
});

describe('what is not found', () => {
  test('two networks of one size are refused by name', () => {
    const both = countingSource(
      ['student.', 'teacher.'].flatMap((prefix) =>
        NAMES.map((name) => ({ name: prefix + name, shape: SHAPES[name] as number[] })),
      ),
    );
    expect(() => withPlainNames(both)).toThrow(
      expect.objectContaining({
        code: 'WEIGHTS_MISMATCH',
        message: expect.stringMatching(/several networks, under 'student\.' and 'teacher\.'/),
      }),
    );
  });

  test('a tensor too many, or too few, is refused if strict', () => {
    const rename: Rename = (name) => `model.${name}`;
    const lacking = withPlainNames(
      source(
        rename,
        NAMES.filter((name) => name !== 'classifier.3.weight'),
      ),
    );
    expect(() => matchWeights(lacking, LAYERS)).toThrow(/'classifier.3.weight': expected shape \[5, 5\], got no such/);
    expect(matchWeights(lacking, LAYERS, { strict: false }).missing).toContain('classifier.3.weight');
  });
});

test('biases that are absent are zeros, strict or not', async () => {
  const weights = NAMES.filter((name) => name.endsWith('.weight'));
  for (const strict of [true, false]) {
    const match = matchWeights(withPlainNames(source((name) => `model.${name}`, weights)), LAYERS, { strict });
    expect(match).toMatchObject({ missing: [], unexpected: [] });
    const values = await collect(match.stream());
    expect([...values.keys()].sort()).toEqual([...NAMES].sort());
    expect(values.get('features.3.bias')).toEqual(new Float32Array(3));
    expect(values.get('features.3.weight')?.[53]).toBe(53);
  }
});
