import type { BatchNorm2d, Layer } from '../program/layers.js';
import type { BufferView, Capabilities, Dispatch } from './kernel.js';
import { batchNorm2d, batchNorm2dTrain } from './ops/batchnorm2d.js';
import { type Conv2dPlan, conv2d } from './ops/conv2d.js';
import { repairConv2d } from './ops/conv2d-repair.js';
import { dropout, relu } from './ops/elementwise.js';
import { flatten, toNCHW, toNHWC } from './ops/layout.js';
import { linear } from './ops/linear.js';
import { adaptiveAvgPool2d, maxPool2d } from './ops/pool.js';
import { softmax } from './ops/softmax.js';
import type { Parameters } from './parameters.js';
import { activation, type KernelCall, type PlacedValue, valueBytes } from './plan.js';

/** The buffers that the calls of a plan read and write. */
export interface KernelBuffers {
  readonly capabilities: Capabilities;
  readonly parameters: Parameters;
  readonly view: (value: PlacedValue) => BufferView;
  readonly scratch: (index: number, bytes: number) => BufferView;
  /** The epilogue of a convolution whose batch norm is folded into it. */
  readonly folded: (layer: BatchNorm2d) => { readonly scale: BufferView; readonly shift: BufferView };
  /** The weights as the convolution's algorithm takes them. */
  readonly convWeights: (layer: Layer, plan: Conv2dPlan) => BufferView;
}

/** The dispatches of a call. `mode` and `seed` are those of the run. */
export function dispatchesOf(
  call: KernelCall,
  buffers: KernelBuffers,
  { mode, seed }: { readonly mode: 'eval' | 'train'; readonly seed: number },
): Dispatch[] {
  const { step, conv, scratchBytes } = call;
  const { parameters, capabilities } = buffers;
  const views = { input: buffers.view(call.input), output: buffers.view(call.output) };
  const shape = activation(call.input);
  if (!step) return convertLayout(call, views);
  const { layer, index } = step;
  const vector = (key: string): BufferView => parameters.view(layer, key);
  switch (layer.op) {
    case 'conv2d': {
      const plan = conv as Conv2dPlan;
      const folded = step.batchNorm && buffers.folded(step.batchNorm);
      const all = { ...views, bias: folded?.shift ?? vector('bias'), scale: folded?.scale };
      const scratch = scratchBytes.map((bytes, i) => buffers.scratch(i, bytes));
      return [
        ...conv2d(plan, { ...all, weight: buffers.convWeights(layer, plan), scratch }),
        ...repairConv2d(plan, { ...all, packed: vector('weight') }),
      ];
    }
    case 'batchNorm2d': {
      const statistics = { runningMean: vector('running_mean'), runningVar: vector('running_var') };
      const all = { ...views, weight: vector('weight'), bias: vector('bias'), ...statistics };
      if (mode === 'eval') return batchNorm2d(shape, all, { ...layer, relu: step.relu });
      const scratch = buffers.scratch(0, scratchBytes[0] as number);
      return batchNorm2dTrain(shape, { ...all, scratch }, { ...layer, relu: step.relu });
    }
    case 'maxPool2d':
      return maxPool2d(shape, views);
    case 'adaptiveAvgPool2d':
      return adaptiveAvgPool2d(shape, layer.outputSize, views);
    case 'relu':
      return relu(shape, views);
    case 'linear': {
      const { shards, f16 } = parameters.layout(layer, 'weight');
      const weights = parameters.views(layer, 'weight');
      const scratch = scratchBytes[0] === undefined ? undefined : buffers.scratch(0, scratchBytes[0]);
      return shards.flatMap(({ from, to }, i) =>
        linear(
          { n: shape.n, ...layer, rows: [from, to], f16 },
          { ...views, weight: weights[i] as BufferView, bias: vector('bias'), scratch },
          { relu: step.relu },
          capabilities,
        ),
      );
    }
    case 'dropout':
      // In eval mode only a dropout at the start of a program is a step.
      return dropout(shape, { p: mode === 'train' ? layer.p : 0, seed, layer: index }, views);
    case 'softmax':
      return softmax({ n: shape.n, features: shape.c }, views);
    case 'flatten':
      return [];
  }
}

function convertLayout({ input, output }: KernelCall, views: { input: BufferView; output: BufferView }): Dispatch[] {
  const shape = activation(input);
  if (output.layout === 'nchw') return toNCHW(shape, views);
  if (input.layout === 'nchw') return toNHWC(activation(output), views);
  return flatten(shape, views);
}

/** Copies a value into PyTorch's order at `target`; no dispatch if it is in that order. */
export function extraction(value: PlacedValue, from: BufferView, target: BufferView): Dispatch[] {
  return isDense(value) ? [] : toNCHW(activation(value), { input: from, output: target });
}

/** True if the value's bytes are in PyTorch's order, without padding. */
export function isDense(value: PlacedValue): boolean {
  const { h, w, c } = activation(value);
  return value.layout === 'nchw' || (h * w === 1 && c % 4 === 0);
}

/** Bytes of a value in PyTorch's order. */
export function tensorBytes({ shape }: PlacedValue): number {
  return valueBytes({ layout: 'nchw', shape });
}
