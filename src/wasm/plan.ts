import type { RunOptions } from '../backend.js';
import { fuse, type Step } from '../fuse.js';
import type { Layer } from '../layers.js';
import { outputShape } from '../shape.js';
import { align, channelStride, type Layout, type Value, valueBytes } from './layout.js';

/** A value with its place, in bytes from the start of the arena. */
export interface Placed extends Value {
  readonly offset: number;
}

/** One call of a kernel. A step without a layer moves its input to another layout. */
export interface Call {
  readonly step: Step | undefined;
  readonly input: Placed;
  readonly output: Placed;
}

/**
 * A forward for one input shape. The spatial layers run for `chunk` images at a time and leave what the classifier
 * reads in a buffer for the whole batch; the classifier then runs once, and reads its weights once.
 */
export interface Plan {
  readonly batch: number;
  readonly chunk: number;
  readonly spatial: readonly Call[];
  readonly dense: readonly Call[];
  /** The classifier's input for the whole batch, if there is a classifier. */
  readonly joint: Placed | undefined;
  readonly arenaBytes: number;
}

/** Images are put together while their activations take no more than this, and are run one by one otherwise. */
const CHUNK_BYTES = 64 * 2 ** 20;

const WANTS: Record<Layer['op'], Layout | 'any'> = {
  conv2d: 'nhwc',
  batchNorm2d: 'nhwc',
  maxPool2d: 'nhwc',
  adaptiveAvgPool2d: 'nhwc',
  relu: 'any',
  flatten: 'nchw',
  linear: 'nchw',
  dropout: 'nchw',
  softmax: 'nchw',
};

/** Operations that write over their input. */
const IN_PLACE: ReadonlySet<Layer['op']> = new Set(['batchNorm2d', 'relu', 'dropout', 'flatten']);

export function makePlan(layers: readonly Layer[], shape: readonly number[], options: RunOptions): Plan {
  const steps = fuse(layers, options.outputs, options.mode);
  const cut = steps.findIndex(({ layer }) => layer.op === 'flatten' || layer.op === 'linear');
  const spatialSteps = cut < 0 ? steps : steps.slice(0, cut);
  const denseSteps = cut < 0 ? [] : steps.slice(cut);
  const batch = shape[0] as number;

  const lay = (images: number): Chain => chain(spatialSteps, [images, ...shape.slice(1)], layers, cut >= 0);
  // Batch norm in train mode needs the whole batch at once.
  let chunk = batch;
  let spatial = lay(chunk);
  if (options.mode === 'eval' && spatial.bytes > CHUNK_BYTES) {
    chunk = Math.max(1, Math.min(batch, Math.floor(CHUNK_BYTES / lay(1).bytes)));
    spatial = lay(chunk);
  }
  const joint = denseSteps.length > 0 ? { ...spatial.last, shape: [batch, ...spatial.last.shape.slice(1)] } : undefined;
  const dense = joint ? chain(denseSteps, joint.shape, layers, false) : undefined;
  const arenaBytes = Math.max(spatial.bytes, dense?.bytes ?? 0);
  return {
    batch,
    chunk,
    spatial: spatial.calls,
    dense: dense?.calls ?? [],
    joint: joint && { ...joint, offset: arenaBytes },
    arenaBytes: arenaBytes + (joint ? valueBytes(joint) : 0),
  };
}

interface Chain {
  readonly calls: readonly Call[];
  /** What the last call makes. */
  readonly last: Placed;
  readonly bytes: number;
}

/**
 * Lays a chain of steps out in the arena: since a step needs its input and output alone, values lie in turn at the
 * arena's bottom and top.
 */
function chain(steps: readonly Step[], shape: readonly number[], layers: readonly Layer[], endsDense: boolean): Chain {
  const values: { value: Value; side: 'bottom' | 'top' }[] = [
    { value: { layout: 'nchw', shape, stride: 0 }, side: 'bottom' },
  ];
  const jobs: { step: Step | undefined; from: number; to: number }[] = [];
  const push = (step: Step | undefined, value: Value, inPlace: boolean): void => {
    const from = values.length - 1;
    const side = (values[from] as (typeof values)[0]).side;
    values.push({ value, side: inPlace ? side : side === 'bottom' ? 'top' : 'bottom' });
    jobs.push({ step, from, to: values.length - 1 });
  };
  const current = (): Value => (values.at(-1) as (typeof values)[0]).value;
  const convert = (layout: Layout, stride: number): void => {
    if (current().layout !== layout) push(undefined, { layout, shape: current().shape, stride }, false);
  };

  for (const step of steps) {
    const { layer } = step;
    const wants = WANTS[layer.op];
    const channels = current().shape[1] as number;
    if (wants === 'nhwc')
      convert('nhwc', layer.op === 'conv2d' && layers[0] === layer ? channels : channelStride(channels));
    if (wants === 'nchw') convert('nchw', 0);
    const out = outputShape(layer, current().shape);
    const layout = layer.op === 'adaptiveAvgPool2d' ? 'nchw' : current().layout;
    const stride = layout === 'nhwc' ? channelStride(out[1] as number) : 0;
    push(step, { layout, shape: out, stride }, IN_PLACE.has(layer.op));
  }
  if (endsDense) convert('nchw', 0);

  const size = (index: number): number => valueBytes((values[index] as (typeof values)[0]).value);
  const bytes = align(
    Math.max(
      size(0),
      ...jobs.map(({ from, to }) =>
        values[from]?.side === values[to]?.side ? Math.max(size(from), size(to)) : size(from) + size(to),
      ),
    ),
  );
  const placed = values.map(
    ({ value, side }): Placed => ({ ...value, offset: side === 'bottom' ? 0 : bytes - valueBytes(value) }),
  );
  return {
    calls: jobs.map(({ step, from, to }) => ({ step, input: placed[from] as Placed, output: placed[to] as Placed })),
    last: placed.at(-1) as Placed,
    bytes,
  };
}
