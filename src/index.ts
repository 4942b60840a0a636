export type { DeviceInfo, StepTime } from './backend.js';
export type { VGGNetErrorCode } from './errors.js';
export { VGGNetError } from './errors.js';
export { GPUTensor } from './gpu-tensor.js';
export { clearCache, listCache } from './hub/cache.js';
export type { PretrainedFile, PretrainedFormat, PretrainedSet } from './hub/catalog.js';
export { PRETRAINED } from './hub/catalog.js';
export type { PretrainedOptions, PretrainedProgress } from './hub/pretrained.js';
export type { CachedFile } from './hub/store.js';
export type { CacheOptions } from './hub/weights.js';
export type { ImageInput } from './image/decode.js';
export { IMAGE_LIMITS } from './image/limits.js';
export { imageToTensor, preprocess } from './image/preprocess.js';
export type { ImagePreset } from './image/preset.js';
export { CAFFE_PRESET, IMAGENET_PRESET } from './image/preset.js';
export type { RawImage } from './image/raw-image.js';
export type { IncompatibleKeys } from './model/load.js';
export type {
  BackwardOptions,
  ClassifyOptions,
  CreateOptions,
  DeviceName,
  DeviceOptions,
  ForwardOptions,
  GradientOptions,
  ImageOptions,
  LoadOptions,
  OnGPU,
  PrecisionOption,
  PrecisionOptions,
} from './model/options.js';
export type { Prediction } from './model/predictions.js';
export type { Tape } from './model/record.js';
export type { LayerSummary, ModelSummary, Profile } from './model/summary.js';
export type { Builder } from './model.js';
export { VGGNet, vgg11, vgg11_bn, vgg13, vgg13_bn, vgg16, vgg16_bn, vgg19, vgg19_bn } from './model.js';
export type { ReluRule } from './program/gradient.js';
export type { Layer } from './program/layers.js';
export type { Precision } from './program/precision.js';
export { Tensor } from './tensor.js';
export type { Architecture, ModelName, ModelOptions, VGGConfig } from './vgg.js';
export { MODEL_NAMES, VGG_TYPES } from './vgg.js';
export type { WeightsInput } from './weights/bytes/bytes.js';
export type { LoadProgress } from './weights/bytes/progress.js';
export type { InitScheme } from './weights/init.js';
export type { NamingScheme } from './weights/naming.js';
export { saveFile } from './weights/save-file.js';
export type { SaveOptions } from './weights/write.js';
export { saveSafetensors } from './weights/write.js';
