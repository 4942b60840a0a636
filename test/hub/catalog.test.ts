import { describe, expect, test } from 'vitest';
import { PRETRAINED, type PretrainedSet } from '../../src/hub/catalog.js';
import { choosePretrainedFile, findPretrained } from '../../src/hub/select.js';
import { validatePreset } from '../../src/image/preset.js';
import { VGGNetError } from '../../src/index.js';
import { MODEL_NAMES } from '../../src/vgg.js';

/** Learned values and running statistics of batch norm, with the eight or so bytes of each `num_batches_tracked`. */
const PARAMETERS: Readonly<Record<string, number>> = { vgg16: 138_357_544, vgg19: 143_667_240, vgg16_bn: 138_365_992 };

describe('the records', () => {
  test('are one for each network, and one of features', () => {
    expect(PRETRAINED.map((set) => set.name).sort()).toEqual(
      [...MODEL_NAMES.map((name) => `${name}#IMAGENET1K_V1`), 'vgg16#IMAGENET1K_FEATURES'].sort(),
    );
    expect(new Set(PRETRAINED.flatMap((set) => set.files.map((file) => file.name))).size).toBe(11);
  });

  test.each(PRETRAINED.map((set) => [set.name, set] as const))('%s', (_, set) => {
    validatePreset(set.preset);
    expect(set.files.some((file) => file.format === 'pth')).toBe(true);
    if (set.classifier) {
      expect(set.top1).toBeGreaterThan(69);
      expect(set.top5).toBeGreaterThan(set.top1 as number);
    }
    for (const file of set.files) {
      expect(choosePretrainedFile(set, file.format)).toBe(file);
      expect(new URL(file.url).protocol).toBe('https:');
      // torch.hub's rule, which the name in a cache keeps for all files.
      expect(file.name).toMatch(new RegExp(`-${file.sha256.slice(0, 8)}\\.(pth|safetensors)$`));
      expect(file.name.startsWith(set.model as string)).toBe(true);
      const parameters = PARAMETERS[set.model as string];
      if (file.size === undefined || parameters === undefined) continue;
      expect(file.size / (4 * parameters)).toBeGreaterThan(1);
      expect(file.size / (4 * parameters)).toBeLessThan(1.001);
    }
  });

  test('safetensors come first where their revision is fixed', () => {
    expect(findPretrained('vgg16').files[0]?.format).toBe('safetensors');
    expect(findPretrained('vgg16').files[0]?.url).toMatch(/\/resolve\/[0-9a-f]{40}\/model\.safetensors$/);
    expect(findPretrained('vgg11').files[0]?.format).toBe('pth');
  });
});

describe('findPretrained', () => {
  test('takes a name in any case, with or without the set', () => {
    expect(findPretrained('VGG16_BN').name).toBe('vgg16_bn#IMAGENET1K_V1');
    expect(findPretrained('vgg16#imagenet1k_features').classifier).toBe(false);
  });

  test.each(['vgg12', 'vgg16#IMAGENET21K', 'vgg11#IMAGENET1K_FEATURES', '', '#'])('%j is unknown', (name) => {
    expect(() => findPretrained(name)).toThrow(expect.objectContaining({ code: 'UNKNOWN_MODEL' }));
  });
});

describe('choosePretrainedFile', () => {
  test('names the formats that there are', () => {
    const choose = (): unknown => choosePretrainedFile(findPretrained('vgg19'), 'safetensors');
    expect(choose).toThrow("format of vgg19#IMAGENET1K_V1 must be 'pth', got 'safetensors'");
  });

  test.each([
    { name: ['vgg16.pth'] as never },
    { sha256: ['8a719046'] as never },
    { url: new URL('https://a/b') as never },
    { size: '5' as never },
    { name: '../vgg16.pth' },
    { name: '/etc/vgg16.pth' },
    { name: '.pth' },
    { name: 'vgg16.txt' },
    { url: 'file:///vgg16.pth' },
    { url: 'vgg16.pth' },
    { sha256: '' },
    { sha256: 'g'.repeat(64) },
    { size: -1 },
  ])('refuses the record %j', (wrong) => {
    const set = findPretrained('vgg19');
    const own: PretrainedSet = { ...set, files: [{ ...choosePretrainedFile(set, undefined), ...wrong }] };
    expect(() => choosePretrainedFile(own, undefined)).toThrow(VGGNetError);
    expect(() => choosePretrainedFile(own, undefined)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });
});
