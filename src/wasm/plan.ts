import type { RunOptions } from '../backend.js';
import { fuse, type Step } from '../fuse.js';
import type { Layer } from '../layers.js';
import { outputShape } from '../shape.js';
import { channelStride, type Layout, type Value, valueBytes } from './layout.js';
import { inputStride } from './parameters.js';

/** A value with its place, in bytes from the start of the arena. */
export interface Placed extends Value {
  readonly offset: number;
  /** The joint value of the whole batch, which is not of the part of the arena that a chain uses. */
  readonly outside: boolean;
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
  const batch = shape[0] as number;

  const lay = (images: number): Chain => chain(spatialSteps, [images, ...shape.slice(1)], { dense: cut >= 0 });
  // Batch norm in train mode needs the whole batch at once.
  let chunk = batch;
  let spatial = lay(chunk);
  if (options.mode === 'eval' && spatial.bytes > CHUNK_BYTES) {
    chunk = Math.max(1, Math.min(batch, Math.floor(CHUNK_BYTES / lay(1).bytes)));
    spatial = lay(chunk);
  }
  const joint = cut < 0 ? undefined : { ...spatial.last, shape: [batch, ...spatial.last.shape.slice(1)], offset: 0 };
  // The joint value lies at the bottom and stays while both parts use the arena above it.
  const base = joint ? valueBytes(joint) : 0;
  const dense = joint ? chain(steps.slice(cut), joint.shape, { from: 'outside' }) : undefined;
  return {
    batch,
    chunk,
    spatial: spatial.calls.map((call) => raise(call, base)),
    dense: dense?.calls.map((call) => raise(call, base)) ?? [],
    joint,
    arenaBytes: base + Math.max(spatial.bytes, dense?.bytes ?? 0),
  };
}

/** A call whose arena begins `base` bytes further up. */
function raise(call: Call, base: number): Call {
  const up = (value: Placed): Placed => ({ ...value, offset: value.outside ? value.offset : value.offset + base });
  return { ...call, input: up(call.input), output: up(call.output) };
}

interface Chain {
  readonly calls: readonly Call[];
  /** What the last call makes. */
  readonly last: Placed;
  readonly bytes: number;
}

type Side = 'bottom' | 'top' | 'outside';

/**
 * Lays a chain of steps out in the arena: since a step needs its input and output alone, values lie in turn at the
 * arena's bottom and top. `from` says where the first value lies; `dense` asks for the last one in 'nchw'.
 */
function chain(
  steps: readonly Step[],
  shape: readonly number[],
  { from = 'bottom', dense = false }: { from?: Side; dense?: boolean },
): Chain {
  const values: (Value & { side: Side })[] = [{ layout: 'nchw', shape, stride: 0, side: from }];
  const made: (Step | undefined)[] = [];
  const current = (): Value & { side: Side } => values.at(-1) as Value & { side: Side };
  const push = (step: Step | undefined, value: Value, inPlace: boolean): void => {
    const { side } = current();
    values.push({ ...value, side: inPlace ? side : side === 'bottom' ? 'top' : 'bottom' });
    made.push(step);
  };
  const convert = (layout: Layout, stride: number): void => {
    if (current().layout !== layout) push(undefined, { layout, shape: current().shape, stride }, false);
  };

  for (const step of steps) {
    const { layer, index } = step;
    const wants = WANTS[layer.op];
    if (wants === 'nhwc') {
      const channels = current().shape[1] as number;
      convert('nhwc', layer.op === 'conv2d' ? inputStride(layer, index) : channelStride(channels));
    }
    if (wants === 'nchw') convert('nchw', 0);
    const out = outputShape(layer, current().shape);
    const layout = layer.op === 'adaptiveAvgPool2d' ? 'nchw' : current().layout;
    const stride = layout === 'nhwc' ? channelStride(out[1] as number) : 0;
    push(step, { layout, shape: out, stride }, IN_PLACE.has(layer.op));
  }
  if (dense) convert('nchw', 0);

  const sizes = values.map((value) => (value.side === 'outside' ? 0 : valueBytes(value)));
  const pairs = made.map((_, i) => {
    const [a, b] = [sizes[i] as number, sizes[i + 1] as number];
    return values[i]?.side === values[i + 1]?.side ? Math.max(a, b) : a + b;
  });
  const bytes = Math.max(sizes[0] as number, ...pairs);
  const placed = values.map(({ side, ...value }, i): Placed => {
    return { ...value, offset: side === 'top' ? bytes - (sizes[i] as number) : 0, outside: side === 'outside' };
  });
  return {
    calls: made.map((step, i) => ({ step, input: placed[i] as Placed, output: placed[i + 1] as Placed })),
    last: placed.at(-1) as Placed,
    bytes,
  };
}
