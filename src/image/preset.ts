import { VGGNetError } from '../errors.js';
import { IMAGE_LIMITS } from './limits.js';

/** How an image becomes a network's input; it belongs to the weights, which were trained with it. */
export interface ImagePreset {
  /** The order of the input's channels; 'L' is grey. */
  readonly mode: 'RGB' | 'BGR' | 'L';
  /** The shorter side is resized to this many pixels (antialiased bilinear); null keeps the size. */
  readonly resize: number | null;
  /** Side of the square that is cut out of the centre, in pixels; null keeps the whole. */
  readonly crop: number | null;
  /** Each channel becomes `(value * scale - mean) / std`, with `value` from 0 to 255. */
  readonly scale: number;
  readonly mean: readonly number[];
  readonly std: readonly number[];
}

/** What torchvision's ImageNet weights of VGG were trained with (`VGG16_Weights.IMAGENET1K_V1.transforms()`). */
export const IMAGENET_PRESET: ImagePreset = Object.freeze({
  mode: 'RGB',
  resize: 256,
  crop: 224,
  scale: 1 / 255,
  mean: Object.freeze([0.485, 0.456, 0.406]),
  std: Object.freeze([0.229, 0.224, 0.225]),
});

/**
 * What the weights of the paper's authors want, as Caffe and Keras use them (`keras.applications.vgg16.preprocess_input`):
 * BGR from 0 to 255 with the mean taken off, not scaled. Keras leaves the way to 224×224 to its caller, and its examples
 * load an image squeezed to 224×224; here it is resized and cropped as for torchvision, which keeps its proportions.
 */
export const CAFFE_PRESET: ImagePreset = Object.freeze({
  mode: 'BGR',
  resize: 256,
  crop: 224,
  scale: 1,
  mean: Object.freeze([103.939, 116.779, 123.68]),
  std: Object.freeze([1, 1, 1]),
});

/** `IMAGENET_PRESET` for grey images, with the averages of its means and deviations, as timm has them. */
const GREY_PRESET: ImagePreset = Object.freeze({
  ...IMAGENET_PRESET,
  mode: 'L',
  mean: Object.freeze([0.449]),
  std: Object.freeze([0.226]),
});

/** The preset of a network whose weights bring none: ImageNet's, for 3 channels or 1; for any other number, none. */
export function defaultPreset(inChannels: number): ImagePreset | undefined {
  if (inChannels === 3) return IMAGENET_PRESET;
  return inChannels === 1 ? GREY_PRESET : undefined;
}

/** Channels of the tensor that a preset makes. */
export function presetChannels(preset: ImagePreset): 1 | 3 {
  return preset.mode === 'L' ? 1 : 3;
}

/**
 * Checks a preset that a caller, or a file, brings.
 * @throws VGGNetError `INVALID_ARGUMENT` that names the field, what was expected and what came
 */
export function validatePreset(preset: ImagePreset): void {
  const fail = (expected: string, value: unknown): never => {
    throw new VGGNetError('INVALID_ARGUMENT', `An image preset's ${expected}, got ${show(value)}`);
  };
  if (typeof preset !== 'object' || preset === null) fail('form is an object', preset);
  const { mode, resize, crop, scale, mean, std } = preset;
  if (mode !== 'RGB' && mode !== 'BGR' && mode !== 'L') fail("mode is 'RGB', 'BGR' or 'L'", mode);
  for (const [name, side] of Object.entries({ resize, crop })) {
    if (side === null) continue;
    if (!Number.isInteger(side) || side < 1 || side > IMAGE_LIMITS.side) {
      fail(`${name} is null or an integer from 1 to ${IMAGE_LIMITS.side}`, side);
    }
  }
  if (!Number.isFinite(scale)) fail('scale is a number', scale);
  const channels = presetChannels(preset);
  for (const [name, values] of Object.entries({ mean, std })) {
    if (!Array.isArray(values) || values.length !== channels || !values.every(Number.isFinite)) {
      fail(`${name} has ${channels} number${channels === 1 ? '' : 's'} for mode '${mode}'`, values);
    }
  }
  if (std.some((value) => value <= 0)) fail('std is above 0', std);
}

function show(value: unknown): string {
  if (Array.isArray(value)) return `[${value.slice(0, 8).map(String).join(', ')}]`;
  return typeof value === 'string' ? `'${value.slice(0, 40)}'` : String(value);
}
