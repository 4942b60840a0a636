import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { loadImageNetLabels } from '../../src/image/labels.js';
import {
  CAFFE_PRESET,
  defaultPreset,
  IMAGENET_PRESET,
  type ImagePreset,
  presetChannels,
  validatePreset,
} from '../../src/image/preset.js';
import { golden } from './golden.js';

describe('presets', () => {
  test('the default follows the channels', () => {
    expect(defaultPreset(3)).toBe(IMAGENET_PRESET);
    const grey = defaultPreset(1) as ImagePreset;
    expect([grey.mode, grey.resize, grey.crop, presetChannels(grey)]).toEqual(['L', 256, 224, 1]);
    expect(defaultPreset(2)).toBeUndefined();
    expect(defaultPreset(4)).toBeUndefined();
    for (const preset of [IMAGENET_PRESET, CAFFE_PRESET, grey]) expect(() => validatePreset(preset)).not.toThrow();
  });

  const broken: [string, unknown][] = [
    ["mode is 'RGB', 'BGR' or 'L', got 'rgb'", { mode: 'rgb' }],
    ['resize is null or an integer from 1 to 32767, got 0', { resize: 0 }],
    ['resize is null or an integer from 1 to 32767, got 1.5', { resize: 1.5 }],
    ['resize is null or an integer from 1 to 32767, got undefined', { resize: undefined }],
    ["crop is null or an integer from 1 to 32767, got '224'", { crop: '224' }],
    ['crop is null or an integer from 1 to 32767, got 40000', { crop: 40_000 }],
    ['scale is a number, got NaN', { scale: Number.NaN }],
    ["mean has 3 numbers for mode 'RGB', got [0.5]", { mean: [0.5] }],
    ["mean has 1 number for mode 'L', got [0.485, 0.456, 0.406]", { mode: 'L', std: [1] }],
    ["std has 3 numbers for mode 'RGB', got [1, Infinity, 1]", { std: [1, Infinity, 1] }],
    ['std is above 0, got [1, 0, 1]', { std: [1, 0, 1] }],
    ["mean has 3 numbers for mode 'RGB', got undefined", { mean: undefined }],
  ];
  test.each(broken)('refused: %s', (message, change) => {
    const preset = { ...IMAGENET_PRESET, ...(change as object) } as ImagePreset;
    expect(() => validatePreset(preset)).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', message: expect.stringContaining(message) }),
    );
  });

  test('refused: no object', () => {
    for (const preset of [null, undefined, 'imagenet']) {
      expect(() => validatePreset(preset as unknown as ImagePreset)).toThrow(
        expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
      );
    }
  });
});

describe('labels', () => {
  test('1000 different names in torchvision’s order', async () => {
    const labels = await loadImageNetLabels();
    expect(labels).toHaveLength(1000);
    expect(new Set(labels).size).toBe(1000);
    expect(labels.every((label) => label.length > 1 && label === label.trim() && !/[\n|]/.test(label))).toBe(true);
    expect([labels[0], labels[281], labels[999]]).toEqual(['tench', 'tabby', 'toilet tissue']);
    expect(createHash('sha256').update(labels.join('\n')).digest('hex')).toBe(golden.labels);
  });
});
