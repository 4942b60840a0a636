import { VGGNetError } from '../errors.js';
import { Tensor } from '../tensor.js';
import { type DecodeOptions, decodeImage, type ImageInput } from './decode.js';
import { checkImageSize } from './limits.js';
import { type ImagePreset, presetChannels, validatePreset } from './preset.js';
import { checkRawImage, type PlainImage, type RawImage } from './raw-image.js';
import { resizeSteps, shorterSideSize } from './resize.js';
import { finish, inSlices, STEP, type Steps } from './steps.js';

/**
 * Decodes an image and makes it a network's input of shape (1, C, H, W): `decodeImage`, then `preprocess`.
 * @throws VGGNetError what these two throw
 */
export async function imageToTensor(
  input: ImageInput,
  preset: ImagePreset,
  options: DecodeOptions = {},
): Promise<Tensor> {
  validatePreset(preset);
  return inSlices(preprocessSteps(await decodeImage(input, options), preset), options.signal);
}

/**
 * Makes pixels a network's input of shape (1, C, H, W), float32, C being 1 for mode 'L' and else 3. In this order:
 * the mode's conversion, resize, crop, `(value * scale - mean) / std`. With `IMAGENET_PRESET` the values are those of
 * torchvision's Resize, CenterCrop, ToTensor and Normalize on a Pillow image.
 * @throws VGGNetError `INVALID_IMAGE` for pixels that do not fit their size; `IMAGE_TOO_LARGE` if the image or the
 * result is over `IMAGE_LIMITS`; `INVALID_ARGUMENT` for a broken preset; `OUT_OF_MEMORY`
 */
export function preprocess(image: RawImage, preset: ImagePreset): Tensor {
  return finish(preprocessSteps(image, preset));
}

/** `preprocess` in steps. */
export function* preprocessSteps(image: RawImage, preset: ImagePreset): Steps<Tensor> {
  validatePreset(preset);
  checkRawImage(image);
  try {
    return yield* normalize(yield* resizeAndCrop(image, preset), preset);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
    throw new VGGNetError('OUT_OF_MEMORY', `No memory to preprocess an image of ${image.width}×${image.height}`, {
      cause: error,
    });
  }
}

/** Where the result of a preset lies in the resized image. */
export interface Placement {
  /** Of the whole resized image. */
  readonly width: number;
  readonly height: number;
  readonly x: CropAxis;
  readonly y: CropAxis;
}

/** @throws VGGNetError `IMAGE_TOO_LARGE` if the result is over `IMAGE_LIMITS` */
export function placementOf(
  image: { readonly width: number; readonly height: number },
  preset: ImagePreset,
): Placement {
  const { resize, crop } = preset;
  const { width, height } = resize === null ? image : shorterSideSize(image.width, image.height, resize);
  const x = cropAxis(width, crop);
  const y = cropAxis(height, crop);
  checkImageSize('A preprocessed image', x.size, y.size);
  return { width, height, x, y };
}

/** The 8-bit part: grey for mode 'L', else RGB (also for 'BGR'), resized and cropped. */
export function* resizeAndCrop(image: RawImage, preset: ImagePreset): Steps<PlainImage> {
  const { x, y, ...size } = placementOf(image, preset);
  const region = { left: x.start, top: y.start, width: x.length, height: y.length };
  return yield* pad(yield* resizeSteps(image, presetChannels(preset), size, region), x, y);
}

/** One axis of torchvision's CenterCrop. */
export interface CropAxis {
  /** First pixel that is kept, and how many are. */
  readonly start: number;
  readonly length: number;
  /** Pixels of the result, and how many zeros come before the image where it is smaller. */
  readonly size: number;
  readonly before: number;
}

export function cropAxis(length: number, crop: number | null): CropAxis {
  if (crop === null) return { start: 0, length, size: length, before: 0 };
  if (crop > length) return { start: 0, length, size: crop, before: Math.floor((crop - length) / 2) };
  return { start: roundHalfEven((length - crop) / 2), length: crop, size: crop, before: 0 };
}

/** Python's `round`: of two integers as near, the even one. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor & 1) : Math.round(value);
}

/** Sets the image into zeros where it is smaller than the crop. */
function* pad(image: PlainImage, x: CropAxis, y: CropAxis): Steps<PlainImage> {
  const { data, width, height, channels } = image;
  if (width === x.size && height === y.size) return image;
  const padded = new Uint8Array(x.size * y.size * channels);
  for (let row = 0; row < height; row++) {
    const from = row * width * channels;
    padded.set(data.subarray(from, from + width * channels), ((y.before + row) * x.size + x.before) * channels);
    if (row % 64 === 0) yield;
  }
  return { data: padded, width: x.size, height: y.size, channels };
}

/** (H, W, C) bytes → (1, C, H, W) floats. */
function* normalize(image: PlainImage, preset: ImagePreset): Steps<Tensor> {
  const { data, width, height, channels } = image;
  const plane = width * height;
  const values = new Float32Array(plane * channels);
  for (let c = 0; c < channels; c++) {
    const table = channelTable(preset, c);
    const from = preset.mode === 'BGR' ? 2 - c : c;
    for (let first = 0; first < plane; first += STEP) {
      const last = Math.min(plane, first + STEP);
      for (let i = first; i < last; i++) values[c * plane + i] = table[data[i * channels + from] as number] as number;
      yield;
    }
  }
  return new Tensor(values, [1, channels, height, width]);
}

/** The value of each byte, rounded to float32 after each operation, as torchvision computes it. */
export function channelTable(preset: ImagePreset, channel: number): Float32Array {
  const mean = Math.fround(preset.mean[channel] as number);
  const std = Math.fround(preset.std[channel] as number);
  return Float32Array.from({ length: 256 }, (_, value) => Math.fround(Math.fround(value * preset.scale) - mean) / std);
}
