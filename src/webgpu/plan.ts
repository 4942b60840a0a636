import type { RunOptions } from '../backend.js';
import { VGGNetError } from '../errors.js';
import { fuse, fusiblePool, type Step } from '../program/fuse.js';
import type { Layer } from '../program/layers.js';
import { inferShapes, outputShape } from '../program/shape.js';
import { formatShape, numel } from '../tensor.js';
import type { Capabilities } from './kernel.js';
import { batchNorm2dScratchBytes } from './ops/batchnorm2d.js';
import { type Conv2dPlan, planConv2d } from './ops/conv2d.js';
import { padded } from './ops/dispatch.js';
import type { Activation } from './ops/elementwise.js';
import { linearScratchBytes } from './ops/linear.js';
import type { PackedLayout } from './ops/pack.js';

/*
 * Plans a forward for an input shape: which step writes to which buffer. Nothing here touches the device.
 */

/**
 * 'nchw' is PyTorch's order; 'nhwc' has the channels padded to a multiple of 4; 'rows' is (N, F) in PyTorch's order
 * with each image's values padded to a multiple of 4. An (N, F) tensor is 'nhwc' and 'rows' at once.
 */
export type Layout = 'nchw' | 'nhwc' | 'rows';
/** A step reads one buffer of a pair and writes the other; 'classifierInput' gathers the results of all parts. */
export type Side = 'a' | 'b' | 'classifierInput';

export interface PlacedValue {
  readonly layout: Layout;
  readonly shape: readonly number[];
  readonly side: Side;
}

/** A step, or a conversion to another layout. */
export interface KernelCall {
  /** Undefined for a conversion. */
  readonly step: Step | undefined;
  readonly input: PlacedValue;
  readonly output: PlacedValue;
  /** Undefined for other operations than convolution. */
  readonly conv: Conv2dPlan | undefined;
  /** The layers whose output this call computes. */
  readonly names: readonly string[];
  readonly scratchBytes: readonly number[];
}

/** Calls that run in sequence for some images of the batch. */
export interface Chain {
  readonly calls: readonly KernelCall[];
  readonly first: PlacedValue;
  readonly last: PlacedValue;
}

export interface Plan {
  readonly batch: number;
  /** The spatial layers, for some images at a time. */
  readonly parts: readonly { readonly from: number; readonly images: number; readonly chain: Chain }[];
  /** The classifier, which runs for the whole batch; undefined if there is one part, which then has all layers. */
  readonly rest: Chain | undefined;
  readonly classifierInput: PlacedValue | undefined;
  /** Bytes of each buffer. */
  readonly bytes: Readonly<Record<Side, number>>;
  readonly scratchBytes: readonly number[];
}

export interface PlanOptions {
  readonly layers: readonly Layer[];
  readonly capabilities: Capabilities;
  /** How the weights of a layer are packed. */
  readonly weights: (layer: Layer) => PackedLayout;
}

/** Images run together if none of their activations is larger. */
const MAX_PART_BYTES = 256 * 2 ** 20;

const INPUT_LAYOUTS: Record<Layer['op'], Layout | 'any'> = {
  conv2d: 'nhwc',
  batchNorm2d: 'nhwc',
  maxPool2d: 'nhwc',
  adaptiveAvgPool2d: 'nhwc',
  relu: 'any',
  flatten: 'rows',
  linear: 'rows',
  dropout: 'any',
  softmax: 'rows',
};

/** Bytes of a value in its layout. */
export function valueBytes({ layout, shape }: Pick<PlacedValue, 'layout' | 'shape'>): number {
  const [n = 0, c = 0] = shape;
  const rest = numel(shape.slice(2));
  if (layout === 'nchw') return n * c * rest * 4;
  return (layout === 'nhwc' ? n * padded(c) * rest : n * padded(c * rest)) * 4;
}

/** The dimensions of a value, as the operations take them. */
export function activation({ layout, shape }: Pick<PlacedValue, 'layout' | 'shape'>): Activation {
  const [n = 0, c = 0, h = 1, w = 1] = shape;
  return layout === 'rows' ? { n, h: 1, w: 1, c: c * h * w } : { n, h, w, c };
}

/**
 * @throws VGGNetError `OUT_OF_MEMORY` if an activation of one image (in train mode, of the batch) is larger than the
 * device can bind; `UNKNOWN_LAYER`; `INVALID_SHAPE`
 */
export function makePlan(planner: PlanOptions, shape: readonly number[], options: RunOptions): Plan {
  const { limits } = planner.capabilities;
  const limit = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const steps = fuse(planner.layers, options.outputs, options.mode);
  if (options.mode === 'train')
    inferShapes(
      steps.map(({ layer }) => layer),
      shape,
      'train',
    );
  const batch = shape[0] as number;
  const chainOf = (some: readonly Step[], images: number): Chain =>
    planChain(planner, some, { layout: 'nchw', shape: [images, ...shape.slice(1)], side: 'a' });

  const classifier = steps.findIndex(({ layer }) => layer.op === 'flatten' || layer.op === 'linear');
  const spatial = classifier < 0 ? steps : steps.slice(0, classifier);
  const maxImages =
    options.mode === 'train' ? batch : imagesAtOnce(chainOf(spatial, 1), batch, Math.min(limit, MAX_PART_BYTES));
  const count = Math.ceil(batch / maxImages);
  if (count === 1) {
    const chain = chainOf(steps, batch);
    return withSizes(
      { batch, parts: [{ from: 0, images: batch, chain }], rest: undefined, classifierInput: undefined },
      limit,
    );
  }
  const size = Math.ceil(batch / count);
  const parts = Array.from({ length: Math.ceil(batch / size) }, (_, i) => {
    const from = i * size;
    const images = Math.min(size, batch - from);
    return { from, images, chain: chainOf(spatial, images) };
  });
  if (classifier < 0) return withSizes({ batch, parts, rest: undefined, classifierInput: undefined }, limit);
  const { last } = (parts[0] as Plan['parts'][number]).chain;
  const classifierInput: PlacedValue = {
    layout: last.layout,
    shape: [batch, ...last.shape.slice(1)],
    side: 'classifierInput',
  };
  return withSizes(
    { batch, parts, rest: planChain(planner, steps.slice(classifier), classifierInput), classifierInput },
    limit,
  );
}

/** Images whose largest activation fits into `bytes`. */
function imagesAtOnce({ calls, first }: Chain, batch: number, bytes: number): number {
  const largest = Math.max(
    valueBytes(first),
    ...calls.flatMap((call) => [valueBytes(call.output), ...call.scratchBytes]),
  );
  return Math.max(1, Math.min(batch, Math.floor(bytes / largest)));
}

/** Adds the sizes of the buffers, each of which must fit a binding. */
function withSizes(plan: Omit<Plan, 'bytes' | 'scratchBytes'>, limit: number): Plan {
  const bytes = { a: 0, b: 0, classifierInput: plan.classifierInput ? valueBytes(plan.classifierInput) : 0 };
  const scratchBytes: number[] = [];
  const chains = [...plan.parts.map(({ chain }) => chain), ...(plan.rest ? [plan.rest] : [])];
  const fitting = (what: string, size: number): number => {
    if (size <= limit) return size;
    throw new VGGNetError(
      'OUT_OF_MEMORY',
      `${what} needs ${size} bytes, and this GPU binds at most ${limit} at once: use fewer or smaller images`,
    );
  };
  for (const { calls, first } of chains) {
    bytes[first.side] = Math.max(bytes[first.side], fitting('The input', valueBytes(first)));
    for (const { output, names, scratchBytes: scratch, step } of calls) {
      const name = names.at(-1) ?? step?.layer.name ?? 'a conversion of layout';
      const { side } = output;
      bytes[side] = Math.max(
        bytes[side],
        fitting(`${name}: the output of shape ${formatShape(output.shape)}`, valueBytes(output)),
      );
      for (const [i, size] of scratch.entries()) {
        scratchBytes[i] = Math.max(scratchBytes[i] ?? 0, fitting(`${name}: its scratch`, size));
      }
    }
  }
  return { ...plan, bytes, scratchBytes };
}

function planChain(planner: PlanOptions, steps: readonly Step[], first: PlacedValue): Chain {
  const calls: KernelCall[] = [];
  let current = first;
  const push = (call: Omit<KernelCall, 'input' | 'output'>, layout: Layout, shape: readonly number[]): void => {
    const output: PlacedValue = { layout, shape, side: current.side === 'a' ? 'b' : 'a' };
    calls.push({ ...call, input: current, output });
    current = output;
  };
  const copyTo = (layout: Layout): void => {
    push({ step: undefined, conv: undefined, names: [], scratchBytes: [] }, layout, current.shape);
  };
  const convert = (layout: Layout): void => {
    if (current.layout === layout) return;
    if (isSame(current, layout)) {
      current = { ...current, layout };
      return;
    }
    if (current.layout === 'rows' && layout === 'nhwc') convert('nchw');
    copyTo(layout);
  };

  for (let i = 0; i < steps.length; i++) {
    const step = steps[i] as Step;
    const { layer } = step;
    const inputLayout = INPUT_LAYOUTS[layer.op];
    // Kernels for any layout need the padding.
    const kept = current.layout === 'nchw' ? (current.shape.length === 4 ? 'nhwc' : 'rows') : current.layout;
    convert(inputLayout === 'any' ? kept : inputLayout);
    const out = outputShape(layer, current.shape);
    if (layer.op === 'flatten') {
      const output = { ...current, shape: out };
      calls.push({ step, input: current, output, conv: undefined, names: step.names, scratchBytes: [] });
      current = output;
      continue;
    }
    if (layer.op === 'conv2d') {
      const pool = fusiblePool(steps, i);
      const { n, h, w } = activation(current);
      const { f16 } = planner.weights(layer);
      const fused = { batchNorm: step.batchNorm !== undefined, relu: step.relu, pool: pool !== undefined };
      const conv = planConv2d({ n, h, w, ...layer, f16 }, fused, planner.capabilities);
      const { names } = pool ?? step;
      push({ step, conv, names, scratchBytes: conv.scratchBytes }, 'nhwc', pool ? outputShape(pool.layer, out) : out);
      if (pool) i++;
      continue;
    }
    const layout = layer.op === 'adaptiveAvgPool2d' ? 'rows' : current.layout;
    const scratchBytes = scratchOf(planner, layer, current, step.batchNorm === undefined && layer.op === 'batchNorm2d');
    push({ step, conv: undefined, names: step.names, scratchBytes }, layout, out);
  }
  return { calls, first, last: current };
}

/** True if the value has the same bytes in another layout. */
function isSame({ layout: from, shape }: PlacedValue, to: Layout): boolean {
  const [, c = 0, h = 1, w = 1] = shape;
  const dense = (c * h * w) % 4 === 0;
  if (from === 'nhwc' || to === 'nhwc') return h * w === 1 && (dense || (from !== 'nchw' && to !== 'nchw'));
  return dense;
}

function scratchOf(planner: PlanOptions, layer: Layer, input: PlacedValue, norm: boolean): number[] {
  const { n } = activation(input);
  if (norm) return [batchNorm2dScratchBytes(activation(input))];
  if (layer.op !== 'linear') return [];
  const { shards, f16 } = planner.weights(layer);
  const bytes = shards.map(({ from, to }) => linearScratchBytes({ n, ...layer, rows: [from, to], f16 }));
  const max = Math.max(...bytes);
  return max > 0 ? [max] : [];
}
