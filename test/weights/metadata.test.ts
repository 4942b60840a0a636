import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VGGNetError } from '../../src/errors.js';
import { resolveConfig } from '../../src/model/config.js';
import type { VGGConfig } from '../../src/vgg.js';
import { decodeConfig, encodeConfig, knownName } from '../../src/weights/metadata.js';

const preset = { mode: 'L', resize: 32, crop: null, scale: 1 / 255, mean: [0.5], std: [0.25] } as const;
const rgb = { ...preset, mode: 'RGB', mean: [0, 0, 0], std: [1, 1, 1] };
const full: VGGConfig = {
  ...resolveConfig([8, 'M', 16, 'M'], { inChannels: 1, numClasses: 3, hiddenFeatures: 32, poolSize: 2, dropout: 0.1 }),
  name: 'glyphs',
  labels: ['A', 'B', 'ü'],
  preset,
};

/** The description with fields changed; undefined takes one away. */
const changed = (fields: Record<string, unknown>): string =>
  JSON.stringify({ ...(JSON.parse(encodeConfig(full)) as object), ...fields });

describe('a description', () => {
  test('is read as it was written', () => {
    expect(decodeConfig(encodeConfig(full))).toEqual(full);
    const plain = resolveConfig('vgg16_bn');
    expect(decodeConfig(encodeConfig(plain))).toEqual(plain);
    expect(Object.keys(decodeConfig(encodeConfig(plain)))).not.toContain('labels');
    expect(decodeConfig(changed({ later: [1] }))).toEqual(full);
  });

  test.each<[string, string, RegExp]>([
    ['no JSON', '{', /is not JSON/],
    ['a list', '[]', /must be an object, got '\[\]'/],
    ['null', 'null', /must be an object, got 'null'/],
    ['no name', changed({ name: undefined }), /name must be a string.*got 'nothing'/],
    ['an empty name', changed({ name: '' }), /name must be/],
    ['a long name', changed({ name: 'x'.repeat(201) }), /name must be/],
    ['a name as architecture', changed({ architecture: 'vgg16' }), /architecture must be a list/],
    ['an architecture of zeros', changed({ architecture: [0] }), /entry 0 is 0/],
    ['an endless architecture', changed({ architecture: new Array(2000).fill(1) }), /over the limit/],
    ['no numClasses', changed({ numClasses: undefined }), /numClasses must be a number/],
    ['null as inChannels', changed({ inChannels: null }), /inChannels must be a number, got 'null'/],
    ['a text as poolSize', changed({ poolSize: '7' }), /poolSize must be a number/],
    ['a fraction', changed({ hiddenFeatures: 1.5 }), /hiddenFeatures must be an integer/],
    ['a large number', changed({ hiddenFeatures: 1e300 }), /hiddenFeatures must be an integer/],
    ['a dropout over 1', changed({ dropout: 2 }), /dropout must be a number from 0 to 1/],
    ['a number as batchNorm', changed({ batchNorm: 1 }), /batchNorm must be true or false/],
    ['too few labels', changed({ labels: ['A'] }), /labels must be 3, one a class, got '1'/],
    ['labels that are no text', changed({ labels: [1, 2, 3] }), /labels must be a list of strings/],
    ['null as preset', changed({ preset: null }), /preset's form is an object/],
    ['an unknown mode', changed({ preset: { ...preset, mode: 'HSV' } }), /mode is 'RGB', 'BGR' or 'L'/],
    ['a mode of more channels', changed({ preset: rgb }), /must have 1 channels/],
    ['a size of 0', changed({ preset: { ...preset, resize: 0 } }), /resize is null or an integer/],
    ['no crop', changed({ preset: { ...preset, crop: undefined } }), /crop is null or an integer/],
    ['a large crop', changed({ preset: { ...preset, crop: 1e9 } }), /crop is null or an integer/],
    ['a text as scale', changed({ preset: { ...preset, scale: '1' } }), /scale is a number/],
    ['two means', changed({ preset: { ...preset, mean: [0, 0] } }), /mean has 1 number /],
    ['a mean that is no number', changed({ preset: { ...preset, mean: [null] } }), /mean has 1 number /],
    ['an infinite deviation', changed({}).replace('[0.25]', '[1e999]'), /std has 1 number /],
    ['a deviation of 0', changed({ preset: { ...preset, std: [0] } }), /std is above 0/],
  ])('%s is refused', (_, text, message) => {
    expect(() => decodeConfig(text)).toThrow(
      expect.objectContaining({ code: 'INVALID_WEIGHTS_FILE', message: expect.stringMatching(message) }),
    );
  });

  test('any JSON gives a description or a typed error', () => {
    const keys = [...Object.keys(full), '__proto__', 'constructor'];
    fc.assert(
      fc.property(fc.constantFrom(...keys), fc.json(), (key, value) => {
        const fields = JSON.parse(encodeConfig(full)) as Record<string, unknown>;
        const rest = Object.entries(fields).filter(([name]) => name !== key);
        const text = `{${[...rest, [key, JSON.parse(value)]].map(([k, v]) => `${JSON.stringify(k)}:${JSON.stringify(v)}`)}}`;
        try {
          expect(decodeConfig(text).numClasses).toBe(3);
        } catch (error) {
          if (!(error instanceof VGGNetError)) throw error;
        }
      }),
      { numRuns: 1000 },
    );
  });
});

describe('knownName', () => {
  test('knows the eight networks only', () => {
    expect(knownName(resolveConfig('vgg13').architecture, true)).toBe('vgg13_bn');
    expect(knownName(resolveConfig('vgg13').architecture, false)).toBe('vgg13');
    expect(knownName([64, 'M'], true)).toBeUndefined();
  });
});
