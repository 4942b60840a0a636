import { describe, expect, test } from 'vitest';
import type { ParameterChunk } from '../../src/backend.js';
import { VGGNetError } from '../../src/errors.js';
import { resolveConfig } from '../../src/model/config.js';
import { type Layer, parametersOf } from '../../src/program/layers.js';
import { Tensor } from '../../src/tensor.js';
import { createLayers } from '../../src/vgg.js';
import { initSource } from '../../src/weights/init.js';
import { completeStream, matchWeights } from '../../src/weights/match.js';
import { type NamingScheme, rename, renamedShape } from '../../src/weights/naming.js';
import { openWeights } from '../../src/weights/open.js';
import { saveSafetensors } from '../../src/weights/write.js';
import { collect, countingSource, readAll } from './collect.js';

const sizes = { hiddenFeatures: 6, numClasses: 5, poolSize: 2, inChannels: 1 };
const config = resolveConfig([4, 'M', 8, 'M'], sizes);
const layers = createLayers(config);
const specs = layers.flatMap(parametersOf);

type Shapes = Map<string, readonly number[]>;

/** The shapes of the network, under a scheme's names. */
function shapesOf(scheme: NamingScheme = 'torchvision', prefix = '', from: readonly Layer[] = layers): Shapes {
  return new Map(
    from
      .flatMap(parametersOf)
      .map(({ name, shape }) => [prefix + rename(name, scheme), renamedShape(name, shape, scheme, sizes.poolSize)]),
  );
}

const sourceOf = (shapes: Shapes, dtypes: Record<string, string> = {}): ReturnType<typeof countingSource> =>
  countingSource([...shapes].map(([name, shape]) => ({ name, shape, dtype: dtypes[name] ?? 'F32' })));

function errorOf(call: () => unknown): VGGNetError {
  try {
    call();
  } catch (error) {
    if (error instanceof VGGNetError) return error;
    throw error;
  }
  throw new Error('it was accepted');
}

describe('matchWeights', () => {
  test.each<[NamingScheme, string]>([
    ['torchvision', ''],
    ['timm', ''],
    ['lesson', ''],
    ['lesson', 'module.'],
  ])('%s names with prefix "%s" become the same network', async (scheme, prefix) => {
    const shapes = shapesOf(scheme, prefix);
    shapes.set(`${prefix}${rename('features.1.num_batches_tracked', scheme)}`, []);
    const match = matchWeights(sourceOf(shapes, { 'features.1.num_batches_tracked': 'I64' }), layers);
    expect(match).toMatchObject({ naming: { scheme, prefix }, missing: [], unexpected: [], replaced: [] });
    const values = await collect(match.stream());
    expect([...values.keys()].sort()).toEqual(specs.map((spec) => spec.name).sort());
    for (const { name, shape } of specs) {
      expect(values.get(name)).toEqual(Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => i));
    }
  });

  test('strict lists all differences', () => {
    const shapes = shapesOf();
    shapes.delete('features.1.bias');
    shapes.delete('features.5.running_var');
    shapes.set('features.4.weight', [8, 4, 5, 5]);
    shapes.set('classifier.6.bias', [7]);
    shapes.set('aux.weight', [2, 2]);
    shapes.set('classifier.9.num_batches_tracked', []);
    const error = errorOf(() => matchWeights(sourceOf(shapes), layers));
    expect(error.code).toBe('WEIGHTS_MISMATCH');
    expect(error.message.split('\n  ')).toEqual([
      'These weights belong to another network; 5 differences:',
      "'features.1.bias': expected shape [4], got no such tensor",
      "'features.5.running_var': expected shape [8], got no such tensor",
      "'features.4.weight': expected shape [8, 4, 3, 3], got [8, 4, 5, 5]",
      "'classifier.6.bias': expected shape [5], got [7]",
      "'aux.weight': expected no such tensor, got shape [2, 2]",
    ]);
  });

  test('a hundred thousand tensors too many make a message that can be read', () => {
    const shapes = shapesOf();
    for (let i = 0; i < 100_000; i++) shapes.set(`x${i}`, []);
    const { message } = errorOf(() => matchWeights(sourceOf(shapes), layers));
    expect(message).toContain('100000 differences');
    expect(message).toMatch(/and 99000 more$/);
  });

  test('strict: false allows missing and unexpected tensors, not another shape', () => {
    const shapes = shapesOf();
    shapes.delete('features.1.bias');
    shapes.set('aux.weight', [2, 2]);
    const match = matchWeights(sourceOf(shapes), layers, { strict: false });
    expect(match).toMatchObject({ missing: ['features.1.bias'], unexpected: ['aux.weight'], replaced: [] });
    shapes.set('features.4.weight', [8, 4, 5, 5]);
    const error = errorOf(() => matchWeights(sourceOf(shapes), layers, { strict: false }));
    expect(error.message).toContain('1 difference:\n  ');
    expect(error.message).toContain("'features.4.weight'");
  });

  const otherHead = createLayers({ ...config, numClasses: 9 });

  test.each<[NamingScheme]>([['torchvision'], ['timm'], ['lesson']])('a new head for %s', (scheme) => {
    const shapes = shapesOf(scheme, '', otherHead);
    const replaced = ['classifier.6.weight', 'classifier.6.bias'];
    expect(errorOf(() => matchWeights(sourceOf(shapes), layers)).message).toContain('2 differences');
    for (const options of [{ strict: false }, { newHead: true }]) {
      expect(matchWeights(sourceOf(shapes), layers, options)).toMatchObject({ missing: [], replaced });
    }
    const error = errorOf(() => matchWeights(sourceOf(shapes), layers, { strict: false, newHead: false }));
    expect(error.message).toContain('2 differences');
  });

  test('a head that differs in more than its classes is refused', () => {
    const wider = shapesOf('torchvision', '', otherHead);
    wider.set('classifier.6.weight', [9, 7]);
    expect(errorOf(() => matchWeights(sourceOf(wider), layers, { strict: false })).message).toContain('got [9, 7]');
    const torn = shapesOf('torchvision', '', otherHead);
    torn.set('classifier.6.bias', [8]);
    expect(errorOf(() => matchWeights(sourceOf(torn), layers, { strict: false })).code).toBe('WEIGHTS_MISMATCH');
    const half = shapesOf();
    half.set('classifier.6.bias', [9]);
    expect(errorOf(() => matchWeights(sourceOf(half), layers, { strict: false })).code).toBe('WEIGHTS_MISMATCH');
  });

  test.each<[string, readonly number[], boolean]>([
    ['classifier.0.weight', [6, 8, 2, 2], true],
    ['classifier.0.weight', [6, 32, 1, 1], true],
    ['classifier.3.weight', [6, 6, 1, 1], true],
    ['classifier.0.weight', [6, 2, 8, 2], false],
    ['classifier.0.weight', [32, 6, 1, 1], false],
    ['classifier.0.bias', [6, 1, 1, 1], false],
    ['features.4.weight', [8, 36, 1, 1], false],
  ])('%s of shape %j', (name, shape, fits) => {
    const shapes = shapesOf().set(name, shape);
    if (fits) expect(matchWeights(sourceOf(shapes), layers).missing).toEqual([]);
    else expect(errorOf(() => matchWeights(sourceOf(shapes), layers)).message).toContain(`got [${shape.join(', ')}]`);
  });

  test('a file of another kind of network is refused, strict or not', () => {
    for (const strict of [true, false]) {
      const shapes: Shapes = new Map([['conv1.weight', [64, 3, 7, 7]]]);
      const error = errorOf(() => matchWeights(sourceOf(shapes), layers, { strict }));
      expect(error.code).toBe('WEIGHTS_MISMATCH');
      expect(error.message).toContain("such as 'features.0.weight', got 'conv1.weight'");
      expect(errorOf(() => matchWeights(sourceOf(new Map()), layers, { strict })).message).toContain('an empty file');
    }
  });

  test('a parameter of integers is refused', () => {
    const error = errorOf(() => matchWeights(sourceOf(shapesOf(), { 'features.0.weight': 'I32' }), layers));
    expect(error).toMatchObject({ code: 'INVALID_DTYPE', message: expect.stringContaining("'features.0.weight'") });
  });

  test('an unexpected tensor of integers is ignored where it may be', () => {
    const shapes = shapesOf().set('ids', [3]);
    const match = matchWeights(sourceOf(shapes, { ids: 'I32' }), layers, { strict: false });
    expect(match.unexpected).toEqual(['ids']);
  });
});

describe('completeStream', () => {
  test('joins the file and random values', async () => {
    const shapes = shapesOf('timm', '', createLayers({ ...config, numClasses: 9 }));
    shapes.delete('features.1.bias');
    const file = saveSafetensors(
      Object.fromEntries([...shapes].map(([name, shape], i) => [name, Tensor.randn(shape, { seed: i })])),
    );
    const match = matchWeights(await openWeights(file), layers, { strict: false });
    const lacking = ['features.1.bias', 'classifier.6.weight', 'classifier.6.bias'];
    expect([...match.missing, ...match.replaced]).toEqual(lacking);
    const init = { init: 'pytorch', seed: 4 } as const;
    const all = await collect(completeStream(match, initSource(config, { ...init, only: new Set(lacking) })));
    const fromFile = await readAll(await openWeights(file));
    const fromInit = await readAll(initSource(config, init));
    expect([...all.keys()].sort()).toEqual(specs.map((spec) => spec.name).sort());
    for (const [name, values] of all) {
      expect(values).toEqual(lacking.includes(name) ? fromInit.get(name) : fromFile.get(rename(name, 'timm')));
    }
  });

  test('needs nothing to fill with when nothing is missing, and leaves what it is given open', async () => {
    const source = sourceOf(shapesOf());
    const fill = countingSource([]);
    const all = await collect(completeStream(matchWeights(source, layers), fill));
    expect(all.size).toBe(specs.length);
    expect([source.closed, fill.closed]).toEqual([0, 0]);
  });

  test('says what is missing when there is nothing to fill with', async () => {
    const shapes = shapesOf();
    shapes.delete('features.1.bias');
    const source = sourceOf(shapes);
    const stream = completeStream(matchWeights(source, layers, { strict: false }));
    await expect(collect(stream)).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      message: expect.stringContaining("'features.1.bias'"),
    });
  });

  test.each<[string, (chunk: ParameterChunk) => ParameterChunk[]]>([
    ['twice', (chunk) => [chunk, chunk]],
    ['never', () => []],
    ['out of order', ({ name, offset, data }) => [{ name, offset: offset + 1, data }]],
    ['too long', ({ name, offset, data }) => [{ name, offset, data: new Float32Array(data.length + 1000) }]],
  ])('a source that gives values %s is found out', async (_, change) => {
    const source = sourceOf(shapesOf());
    const chunks = source.chunks.bind(source);
    source.chunks = async function* (wanted) {
      for await (const chunk of chunks(wanted)) yield* chunk.name === 'features.4.weight' ? change(chunk) : [chunk];
    };
    const seen = async (): Promise<void> => {
      for await (const _ of completeStream(matchWeights(source, layers)));
    };
    await expect(seen()).rejects.toMatchObject({
      code: 'WEIGHTS_MISMATCH',
      message: expect.stringContaining('features.4'),
    });
  });
});
