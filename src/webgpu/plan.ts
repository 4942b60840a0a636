import type { RunOptions } from '../backend.js';
import { VGGNetError } from '../errors.js';
import { fuse, type Step } from '../program/fuse.js';
import { type Layer, usesBatchStatistics } from '../program/layers.js';
import { outputShape } from '../program/shape.js';
import { formatShape, numel } from '../tensor.js';
import type { Capabilities } from './kernel.js';
import { batchNormScratchBytes } from './ops/batch-norm.js';
import { type Conv2dPlan, planConv2d } from './ops/conv2d.js';
import { padded } from './ops/dispatch.js';
import type { Activation } from './ops/elementwise.js';
import { linearScratchBytes } from './ops/linear.js';
import type { PackedLayout } from './ops/pack.js';

/*
 * Lays a forward out for one input shape: which step writes where. Nothing here touches the device.
 *
 * Layouts: 'nchw' is PyTorch's; 'nhwc' has the channels padded to a multiple of 4; 'rows' is (N, F) in PyTorch's order
 * with each image's values padded to a multiple of 4. An (N, F) tensor is 'nhwc' and 'rows' at once.
 */
export type Layout = 'nchw' | 'nhwc' | 'rows';
/** Which buffer: a step reads one of a pair and writes the other; 'joint' has what all parts leave for the classifier. */
export type Side = 'a' | 'b' | 'joint';

export interface Value {
  readonly layout: Layout;
  readonly shape: readonly number[];
  readonly side: Side;
}

/** One step, or a move to another layout. */
export interface Call {
  /** Undefined for a move. */
  readonly step: Step | undefined;
  readonly input: Value;
  readonly output: Value;
  /** Of a convolution. */
  readonly conv: Conv2dPlan | undefined;
  /** The layers whose output this call makes. */
  readonly names: readonly string[];
  readonly scratchBytes: readonly number[];
}

/** Calls that run one after another for some images of the batch. */
export interface Chain {
  readonly calls: readonly Call[];
  readonly first: Value;
  readonly last: Value;
}

export interface Plan {
  readonly batch: number;
  /** The spatial layers, for so many images at a time. */
  readonly parts: readonly { readonly from: number; readonly images: number; readonly chain: Chain }[];
  /** What runs for the whole batch after the parts; undefined if there is one part, which then has everything. */
  readonly rest: Chain | undefined;
  readonly joint: Value | undefined;
  /** Bytes of each buffer: the pair, the joint value, the scratch buffers. */
  readonly bytes: Readonly<Record<Side, number>>;
  readonly scratchBytes: readonly number[];
}

export interface Planner {
  readonly layers: readonly Layer[];
  readonly capabilities: Capabilities;
  /** How a layer's weights are packed. */
  readonly weights: (layer: Layer) => PackedLayout;
}

/** Images run together while one activation of theirs takes no more than this. */
const PART_BYTES = 256 * 2 ** 20;

const WANTS: Record<Layer['op'], Layout | 'any'> = {
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
export function valueBytes({ layout, shape }: Pick<Value, 'layout' | 'shape'>): number {
  const [n = 0, c = 0] = shape;
  const rest = numel(shape.slice(2));
  if (layout === 'nchw') return n * c * rest * 4;
  return (layout === 'nhwc' ? n * padded(c) * rest : n * padded(c * rest)) * 4;
}

/** A value as the kernels take it. */
export function activation({ layout, shape }: Pick<Value, 'layout' | 'shape'>): Activation {
  const [n = 0, c = 0, h = 1, w = 1] = shape;
  return layout === 'rows' ? { n, h: 1, w: 1, c: c * h * w } : { n, h, w, c };
}

/**
 * @throws VGGNetError `OUT_OF_MEMORY` if an activation of one image (in train mode, of the batch) is larger than the
 * device can bind; `UNKNOWN_LAYER`; `INVALID_SHAPE`
 */
export function makePlan(planner: Planner, shape: readonly number[], options: RunOptions): Plan {
  const { limits } = planner.capabilities;
  const limit = Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize);
  const steps = fuse(planner.layers, options.outputs, options.mode);
  checkStatistics(steps, shape, options);
  const batch = shape[0] as number;
  const lay = (some: readonly Step[], images: number): Chain =>
    layChain(planner, some, { layout: 'nchw', shape: [images, ...shape.slice(1)], side: 'a' });

  const cut = steps.findIndex(({ layer }) => layer.op === 'flatten' || layer.op === 'linear');
  const spatial = cut < 0 ? steps : steps.slice(0, cut);
  const most = options.mode === 'train' ? batch : imagesAtOnce(lay(spatial, 1), batch, Math.min(limit, PART_BYTES));
  const count = Math.ceil(batch / most);
  if (count === 1) {
    const chain = lay(steps, batch);
    return finish({ batch, parts: [{ from: 0, images: batch, chain }], rest: undefined, joint: undefined }, limit);
  }
  const size = Math.ceil(batch / count);
  const parts = Array.from({ length: Math.ceil(batch / size) }, (_, i) => {
    const from = i * size;
    const images = Math.min(size, batch - from);
    return { from, images, chain: lay(spatial, images) };
  });
  if (cut < 0) return finish({ batch, parts, rest: undefined, joint: undefined }, limit);
  const { last } = (parts[0] as Plan['parts'][number]).chain;
  const joint: Value = { layout: last.layout, shape: [batch, ...last.shape.slice(1)], side: 'joint' };
  return finish({ batch, parts, rest: layChain(planner, steps.slice(cut), joint), joint }, limit);
}

/** How many images' largest activation fits into some bytes. */
function imagesAtOnce({ calls, first }: Chain, batch: number, bytes: number): number {
  const largest = Math.max(
    valueBytes(first),
    ...calls.flatMap((call) => [valueBytes(call.output), ...call.scratchBytes]),
  );
  return Math.max(1, Math.min(batch, Math.floor(bytes / largest)));
}

function checkStatistics(steps: readonly Step[], shape: readonly number[], { mode }: RunOptions): void {
  let current = shape;
  for (const { layer } of steps) {
    if (usesBatchStatistics(layer, mode) && numel(current) === (current[1] as number)) {
      throw new VGGNetError(
        'INVALID_SHAPE',
        `${layer.name}: expected more than 1 value per channel when training, got ${formatShape(current)}`,
      );
    }
    current = outputShape(layer, current);
  }
}

/** The sizes of the buffers, which must each fit a binding. */
function finish(plan: Omit<Plan, 'bytes' | 'scratchBytes'>, limit: number): Plan {
  const bytes = { a: 0, b: 0, joint: plan.joint ? valueBytes(plan.joint) : 0 };
  const scratchBytes: number[] = [];
  const chains = [...plan.parts.map(({ chain }) => chain), ...(plan.rest ? [plan.rest] : [])];
  const need = (what: string, size: number): number => {
    if (size <= limit) return size;
    throw new VGGNetError(
      'OUT_OF_MEMORY',
      `${what} takes ${size} bytes, and this GPU binds at most ${limit} at once: use fewer or smaller images`,
    );
  };
  for (const { calls, first } of chains) {
    bytes[first.side] = Math.max(bytes[first.side], need('The input', valueBytes(first)));
    for (const { output, names, scratchBytes: scratch, step } of calls) {
      const name = names.at(-1) ?? step?.layer.name ?? 'a change of layout';
      const { side } = output;
      bytes[side] = Math.max(
        bytes[side],
        need(`${name}: the output of shape ${formatShape(output.shape)}`, valueBytes(output)),
      );
      for (const [i, size] of scratch.entries()) {
        scratchBytes[i] = Math.max(scratchBytes[i] ?? 0, need(`${name}: its scratch`, size));
      }
    }
  }
  return { ...plan, bytes, scratchBytes };
}

function layChain(planner: Planner, steps: readonly Step[], first: Value): Chain {
  const calls: Call[] = [];
  let current = first;
  const push = (call: Omit<Call, 'input' | 'output'>, layout: Layout, shape: readonly number[]): void => {
    const output: Value = { layout, shape, side: current.side === 'a' ? 'b' : 'a' };
    calls.push({ ...call, input: current, output });
    current = output;
  };
  const move = (layout: Layout): void => {
    push({ step: undefined, conv: undefined, names: [], scratchBytes: [] }, layout, current.shape);
  };
  const convert = (layout: Layout): void => {
    if (current.layout === layout) return;
    if (isSame(current, layout)) {
      current = { ...current, layout };
      return;
    }
    if (current.layout === 'rows' && layout === 'nhwc') convert('nchw');
    move(layout);
  };

  for (let i = 0; i < steps.length; i++) {
    const step = steps[i] as Step;
    const { layer } = step;
    const wants = WANTS[layer.op];
    // Kernels that take any layout take it padded.
    const kept = current.layout === 'nchw' ? (current.shape.length === 4 ? 'nhwc' : 'rows') : current.layout;
    convert(wants === 'any' ? kept : wants);
    const out = outputShape(layer, current.shape);
    if (layer.op === 'flatten') {
      const output = { ...current, shape: out };
      calls.push({ step, input: current, output, conv: undefined, names: step.names, scratchBytes: [] });
      current = output;
      continue;
    }
    if (layer.op === 'conv2d') {
      const next = steps[i + 1];
      // What was asked for is what a call makes, so a convolution with a name that is wanted is not pooled.
      const pool = next?.layer.op === 'maxPool2d' && !step.wanted;
      const { n, h, w } = activation(current);
      const { f16 } = planner.weights(layer);
      const fused = { batchNorm: step.batchNorm !== undefined, relu: step.relu, pool };
      const conv = planConv2d({ n, h, w, ...layer, f16 }, fused, planner.capabilities);
      const names = pool ? next.names : step.names;
      push({ step, conv, names, scratchBytes: conv.scratchBytes }, 'nhwc', pool ? outputShape(next.layer, out) : out);
      if (pool) i++;
      continue;
    }
    const layout = layer.op === 'adaptiveAvgPool2d' ? 'rows' : current.layout;
    const scratchBytes = scratchOf(planner, layer, current, step.batchNorm === undefined && layer.op === 'batchNorm2d');
    push({ step, conv: undefined, names: step.names, scratchBytes }, layout, out);
  }
  return { calls, first, last: current };
}

/** A value's bytes are the same in another layout. */
function isSame({ layout: from, shape }: Value, to: Layout): boolean {
  const [, c = 0, h = 1, w = 1] = shape;
  const dense = (c * h * w) % 4 === 0;
  if (from === 'nhwc' || to === 'nhwc') return h * w === 1 && (dense || (from !== 'nchw' && to !== 'nchw'));
  return dense;
}

function scratchOf(planner: Planner, layer: Layer, input: Value, norm: boolean): number[] {
  const { n } = activation(input);
  if (norm) return [batchNormScratchBytes(activation(input))];
  if (layer.op !== 'linear') return [];
  const { shards, f16 } = planner.weights(layer);
  const bytes = shards.map(({ from, to }) => linearScratchBytes({ n, ...layer, rows: [from, to], f16 }));
  const most = Math.max(...bytes);
  return most > 0 ? [most] : [];
}
