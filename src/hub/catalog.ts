import { IMAGENET_PRESET, type ImagePreset } from '../image/preset.js';
import type { Architecture, ModelName } from '../vgg.js';

/** How a file of weights is written: as a PyTorch checkpoint or as safetensors. */
export type PretrainedFormat = 'pth' | 'safetensors';

/** A published file, and how to know that it is the right one. */
export interface PretrainedFile {
  readonly format: PretrainedFormat;
  /** Its name in a cache. */
  readonly name: string;
  readonly url: string;
  /** SHA-256 in hexadecimal: all 64 digits, or the first eight where its publisher gives no more than those. */
  readonly sha256: string;
  /** Bytes, where they are published. */
  readonly size?: number | undefined;
}

/** A set of published weights. */
export interface PretrainedSet {
  /** As `VGGNet.fromPretrained` takes it: `vgg16#IMAGENET1K_V1`. */
  readonly name: string;
  /** What `VGGNet.create` makes the network from. */
  readonly model: ModelName | Architecture;
  /** False for a set without a classifier, which cannot classify. */
  readonly classifier: boolean;
  /** What the classes are, by the names that `VGGNet.labels` gives. */
  readonly classes: 'ImageNet-1K' | undefined;
  readonly preset: ImagePreset;
  /** Percent of ImageNet-1K's validation images (one centre crop) that torchvision publishes. */
  readonly top1: number | undefined;
  readonly top5: number | undefined;
  /** An SPDX name. The terms of the images that a network was trained with may matter too. */
  readonly licence: string;
  /** Where it is described. */
  readonly source: string;
  /** The preferred one first. */
  readonly files: readonly PretrainedFile[];
}

const TORCHVISION = 'https://download.pytorch.org/models/';

/** torch.hub's rule: the digits after the name's last dash begin the digest. */
function checkpoint(title: string, sha256: string, size?: number): PretrainedFile {
  const name = `${title}-${sha256.slice(0, 8)}.pth`;
  return { format: 'pth', name, url: TORCHVISION + name, sha256, size };
}

/** The same weights under timm's names, at a revision of their repository on the Hugging Face hub. */
function timm(model: ModelName, revision: string, sha256: string): PretrainedFile {
  const url = `https://huggingface.co/timm/${model}.tv_in1k/resolve/${revision}/model.safetensors`;
  return { format: 'safetensors', name: `${model}.tv_in1k-${sha256.slice(0, 8)}.safetensors`, url, sha256 };
}

function imagenet(model: ModelName, top1: number, top5: number, files: readonly PretrainedFile[]): PretrainedSet {
  return {
    name: `${model}#IMAGENET1K_V1`,
    model,
    classifier: true,
    classes: 'ImageNet-1K',
    preset: IMAGENET_PRESET,
    top1,
    top5,
    licence: 'BSD-3-Clause',
    source: `https://docs.pytorch.org/vision/stable/models/generated/torchvision.models.${model}.html`,
    files,
  };
}

/** `VGG16_Weights.IMAGENET1K_FEATURES.transforms()`: values from 0 to 255 with a mean taken off, and RGB all the same. */
const FEATURES_PRESET: ImagePreset = Object.freeze({
  mode: 'RGB',
  resize: 256,
  crop: 224,
  scale: 1 / 255,
  mean: Object.freeze([0.48235, 0.45882, 0.40784]),
  std: Object.freeze([1 / 255, 1 / 255, 1 / 255]),
});

/** The official weights that `VGGNet.fromPretrained` knows, with torchvision's figures. */
export const PRETRAINED: readonly PretrainedSet[] = [
  imagenet('vgg11', 69.02, 88.628, [
    checkpoint('vgg11', '8a719046'),
    // Held by its digest alone: another file there is refused.
    timm('vgg11', 'main', '682c023808812148d4e60c76d80ad83dbeaf5d50eb1a952a0b836895003151e5'),
  ]),
  imagenet('vgg13', 69.928, 89.246, [checkpoint('vgg13', '19584684')]),
  imagenet('vgg16', 71.592, 90.382, [
    timm(
      'vgg16',
      'b8d8aa2dd860af9233c8c67385a8097fd6c35d3f',
      '57b026918159a6bf9faf8405c3a551903768e7138989d9c6224a14227203fad8',
    ),
    checkpoint('vgg16', '397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0', 553_433_881),
  ]),
  imagenet('vgg19', 72.376, 90.876, [
    checkpoint('vgg19', 'dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44', 574_673_361),
  ]),
  imagenet('vgg11_bn', 70.37, 89.81, [checkpoint('vgg11_bn', '6002323d')]),
  imagenet('vgg13_bn', 71.586, 90.374, [checkpoint('vgg13_bn', 'abd245e5')]),
  imagenet('vgg16_bn', 73.36, 91.516, [
    checkpoint('vgg16_bn', '6c64b3138f2f4fcb3bcc4cafde11619c4f440eb1631787e93a682fd88305888a', 553_507_836),
  ]),
  imagenet('vgg19_bn', 74.218, 91.842, [
    checkpoint('vgg19_bn', 'c79401a0cf3cb42714e4182f5868c7a6f4f4534f5df9e956e2bb2098de41cbb6', 574_769_405),
  ]),
  {
    name: 'vgg16#IMAGENET1K_FEATURES',
    model: 'vgg16',
    // Its file fills the classifier with NaN.
    classifier: false,
    classes: undefined,
    preset: FEATURES_PRESET,
    top1: undefined,
    top5: undefined,
    licence: 'BSD-3-Clause',
    source: 'https://github.com/amdegroot/ssd.pytorch#training-ssd',
    files: [checkpoint('vgg16_features-amdegroot', '88682ab5')],
  },
];
