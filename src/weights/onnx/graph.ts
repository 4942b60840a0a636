import { VGGNetError } from '../../errors.js';
import { resolveConfig } from '../../model/config.js';
import { parametersOf } from '../../program/layers.js';
import { type Architecture, createLayers, type VGGConfig } from '../../vgg.js';
import { contiguousStrides, type ViewEntry } from '../bytes/view.js';
import { knownName } from '../metadata.js';
import { type Chain, type ConvStep, type LinearStep, walkChain } from './chain.js';
import type { OnnxModel, OnnxTensor } from './model.js';

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
      tensors.weight = plainView(conv.weight);
      tensors.bias = plainView(conv.bias);
    } else if (layer.op === 'batchNorm2d') {
      const names = ['weight', 'bias', 'running_mean', 'running_var'];
      for (const [i, name] of names.entries()) tensors[name] = plainView(conv?.norm?.[i] as OnnxTensor);
    } else if (layer.op === 'linear') {
      const linear = linears.shift() as LinearStep;
      tensors.weight = linearView(linear);
      tensors.bias = plainView(linear.bias);
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
  const channels = convs.at(-1)?.weight.dims[0] as number;
  const poolSize = Math.sqrt(fc6.inFeatures / channels);
  if (!Number.isInteger(poolSize) || poolSize < 1) {
    differ(`${fc6.label}: expected ${channels} channels times a square of inputs, got ${fc6.inFeatures}`);
  }
  if (fc7.outFeatures !== fc6.outFeatures) {
    differ(`${fc7.label}: expected ${fc6.outFeatures} outputs, as the layer before it has, got ${fc7.outFeatures}`);
  }
  const list: Architecture = architecture;
  const name = knownName(list, batchNorm);
  const config = resolveConfig(list, {
    inChannels: first.weight.dims[1] as number,
    numClasses: fc8.outFeatures,
    hiddenFeatures: fc6.outFeatures,
    poolSize,
    batchNorm,
  });
  return name === undefined ? config : { ...config, name };
}

function plainView(tensor: OnnxTensor): ViewEntry {
  const { dims, dtype, width, name } = tensor;
  const layout = { storage: tensor, byteOffset: 0, width, dims, strides: contiguousStrides(dims) };
  return { name, shape: dims, dtype, layout };
}

/** (out, in) as PyTorch has it, however the file has it. */
function linearView({ weight, transposed }: LinearStep): ViewEntry {
  const view = plainView(weight);
  if (!transposed) return view;
  const [inputs = 0, outputs = 0] = weight.dims;
  const shape = [outputs, inputs];
  return { ...view, shape, layout: { ...view.layout, dims: shape, strides: [1, outputs] } };
}

function differ(what: string): never {
  throw new VGGNetError('WEIGHTS_MISMATCH', `This graph is not a VGG network: ${what}`);
}
