import { resolveConfig } from '../../model/config.js';
import { parametersOf } from '../../program/layers.js';
import { type Architecture, createLayers, type VGGConfig } from '../../vgg.js';
import type { ViewEntry } from '../bytes/view.js';
import { knownName } from '../metadata.js';
import { type Chain, type ConvStep, type LinearStep, walkChain } from './chain.js';
import type { OnnxModel } from './model.js';
import { differ, type OnnxWeight } from './weights.js';

/*
 * Takes a graph for a VGG network. Exporters name tensors as they like and fold batch norm away, so a tensor is what
 * the graph does with it: the third convolution's weight, whatever it is called.
 */

export interface OnnxNetwork {
  readonly config: VGGConfig;
  /** By torchvision's names. */
  readonly entries: readonly ViewEntry[];
}

/** @throws VGGNetError `WEIGHTS_MISMATCH` that names the first difference from a VGG; as `resolveConfig` */
export function networkOf(model: OnnxModel): OnnxNetwork {
  const chain = walkChain(model);
  const config = configOf(chain);
  const found = new Map<string, ViewEntry>();
  const linears = [...chain.linears];
  const convs = [...chain.convs];
  let conv: ConvStep | undefined;
  for (const layer of createLayers(config)) {
    const tensors: Record<string, ViewEntry> = {};
    if (layer.op === 'conv2d') {
      conv = convs.shift() as ConvStep;
      tensors.weight = conv.weight;
      tensors.bias = conv.bias;
    } else if (layer.op === 'batchNorm2d') {
      const names = ['weight', 'bias', 'running_mean', 'running_var'];
      for (const [i, name] of names.entries()) tensors[name] = conv?.norm?.[i] as OnnxWeight;
    } else if (layer.op === 'linear') {
      const linear = linears.shift() as LinearStep;
      const isFirst = linears.length === chain.linears.length - 1;
      tensors.weight = isFirst && chain.channelsLast ? channelsFirst(linear.weight, config.poolSize) : linear.weight;
      tensors.bias = linear.bias;
    }
    for (const { name } of parametersOf(layer)) {
      const view = tensors[name.slice(layer.path.length + 1)] as ViewEntry;
      found.set(name, { ...view, name });
    }
  }
  return { config, entries: [...found.values()] };
}

function configOf({ architecture, convs, linears }: Chain): VGGConfig {
  const [fc6, fc7, fc8] = linears as [LinearStep, LinearStep, LinearStep];
  const [first] = convs as [ConvStep];
  const normed = convs.filter((conv) => conv.norm).length;
  if (normed !== 0 && normed !== convs.length) {
    differ(`expected batch norm after every convolution or after none, got it after ${normed} of ${convs.length}`);
  }
  const batchNorm = normed > 0;
  const channels = convs.at(-1)?.weight.shape[0] as number;
  const [hiddenFeatures = 0, inFeatures = 0] = fc6.weight.shape;
  const poolSize = Math.sqrt(inFeatures / channels);
  if (!Number.isInteger(poolSize) || poolSize < 1) {
    differ(`${fc6.label}: expected ${channels} channels times a square of inputs, got ${inFeatures}`);
  }
  if (linears.length !== 3) differ(`expected three linear layers, got ${linears.length}`);
  if (fc7.weight.shape[0] !== hiddenFeatures) {
    differ(`${fc7.label}: expected ${hiddenFeatures} outputs, as the layer before it has, got ${fc7.weight.shape[0]}`);
  }
  const list: Architecture = architecture;
  const name = knownName(list, batchNorm);
  const config = resolveConfig(list, {
    inChannels: first.weight.shape[1] as number,
    numClasses: fc8.weight.shape[0] as number,
    hiddenFeatures,
    poolSize,
    batchNorm,
  });
  return name === undefined ? config : { ...config, name };
}

/** A weight (out, in) whose inputs are a grid (height, width, channels), as one whose inputs are (channels, height, width). */
function channelsFirst(weight: OnnxWeight, side: number): OnnxWeight {
  const [out = 0, inputs = 0] = weight.shape;
  const [outStride = 0, inStride = 0] = weight.layout.strides;
  const channels = inputs / side ** 2;
  const dims = [out, channels, side, side];
  const strides = [outStride, inStride, side * channels * inStride, channels * inStride];
  return { ...weight, layout: { ...weight.layout, dims, strides } };
}
