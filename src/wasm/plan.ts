import type { RunOptions } from '../backend.js';
import { fuse, type Step } from '../fuse.js';
import type { Conv2d, Layer } from '../layers.js';
import { outputShape } from '../shape.js';
import { chooseAlgorithm, shareTiles, tileCount } from './convolution.js';
import { channelStride, type Layout, type Value, valueBytes } from './layout.js';
import { inputStride } from './parameters.js';

/** A value with its place, in bytes from the start of the arena. */
export interface Placed extends Value {
  readonly offset: number;
  /** The joint value of the whole batch, which is not of the part of the arena that a chain uses. */
  readonly outside: boolean;
}

/** One call of a kernel. */
export interface Call {
  /** Undefined for a move of the input to another layout. */
  readonly step: Step | undefined;
  readonly input: Placed;
  readonly output: Placed;
  /** Set for a convolution by Winograd's method. */
  readonly winograd: Winograd | undefined;
  /** The layers whose output this call makes. */
  readonly names: readonly string[];
}

export interface Winograd {
  /** Tiles that go through the stages at once. */
  readonly block: number;
  /** The threads share each block; otherwise each has tiles of its own. */
  readonly together: boolean;
  /** The output is the 2×2 max-pool of the convolution's. */
  readonly pool: boolean;
}

/** What the planner has to know of the engine. */
export interface Planner {
  readonly layers: readonly Layer[];
  /** True if a layer's weights are there in Winograd's form. */
  readonly hasWinograd: (index: number) => boolean;
  readonly threads: number;
  readonly workspaceBytes: (winograd: Winograd, inStride: number, outStride: number) => number;
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
  /** Where the convolutions' workspace lies. */
  readonly workspace: number;
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

export function makePlan(planner: Planner, shape: readonly number[], options: RunOptions): Plan {
  const steps = fuse(planner.layers, options.outputs, options.mode);
  const cut = steps.findIndex(({ layer }) => layer.op === 'flatten' || layer.op === 'linear');
  const spatialSteps = cut < 0 ? steps : steps.slice(0, cut);
  const batch = shape[0] as number;

  const lay = (images: number): Chain => chain(planner, spatialSteps, [images, ...shape.slice(1)], { dense: cut >= 0 });
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
  const dense = joint ? chain(planner, steps.slice(cut), joint.shape, { from: 'outside' }) : undefined;
  return {
    batch,
    chunk,
    spatial: spatial.calls.map((call) => raise(call, base)),
    dense: dense?.calls.map((call) => raise(call, base)) ?? [],
    joint,
    workspace: base + spatial.bytes,
    arenaBytes: base + Math.max(spatial.bytes + spatial.workspaceBytes, dense?.bytes ?? 0),
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
  readonly workspaceBytes: number;
}

type Side = 'bottom' | 'top' | 'outside';

/**
 * Lays a chain of steps out in the arena: since a step needs its input and output alone, values lie in turn at the
 * arena's bottom and top. `from` says where the first value lies; `dense` asks for the last one in 'nchw'.
 */
function chain(
  planner: Planner,
  steps: readonly Step[],
  shape: readonly number[],
  { from = 'bottom', dense = false }: { from?: Side; dense?: boolean },
): Chain {
  const values: (Value & { side: Side })[] = [{ layout: 'nchw', shape, stride: 0, side: from }];
  const jobs: Omit<Call, 'input' | 'output'>[] = [];
  const current = (): Value & { side: Side } => values.at(-1) as Value & { side: Side };
  const push = (job: Omit<Call, 'input' | 'output'>, value: Value, inPlace: boolean): void => {
    const { side } = current();
    values.push({ ...value, side: inPlace ? side : side === 'bottom' ? 'top' : 'bottom' });
    jobs.push(job);
  };
  const convert = (layout: Layout, stride: number): void => {
    if (current().layout === layout) return;
    const move = { step: undefined, winograd: undefined, names: [] };
    push(move, { layout, shape: current().shape, stride }, false);
  };

  let workspaceBytes = 0;
  for (let i = 0; i < steps.length; i++) {
    const step = steps[i] as Step;
    const { layer, index } = step;
    const wants = WANTS[layer.op];
    if (wants === 'nhwc') {
      const channels = current().shape[1] as number;
      convert('nhwc', layer.op === 'conv2d' ? inputStride(layer, index) : channelStride(channels));
    }
    if (wants === 'nchw') convert('nchw', 0);
    const input = current();
    let out = outputShape(layer, input.shape);
    let names = step.names;
    let winograd: Winograd | undefined;
    if (layer.op === 'conv2d' && planner.hasWinograd(index)) {
      const next = steps[i + 1];
      // What was asked for is what a step makes, so a convolution with a name that is wanted keeps its output.
      const pool = next?.layer.op === 'maxPool2d' && !step.wanted;
      winograd = chooseWinograd(layer, input.shape, pool, planner.threads);
      if (winograd) {
        const outStride = channelStride(layer.outChannels);
        workspaceBytes = Math.max(workspaceBytes, planner.workspaceBytes(winograd, input.stride, outStride));
      }
      if (winograd?.pool) {
        out = outputShape((next as Step).layer, out);
        names = (next as Step).names;
        i++;
      }
    }
    const layout = layer.op === 'adaptiveAvgPool2d' ? 'nchw' : input.layout;
    const stride = layout === 'nhwc' ? channelStride(out[1] as number) : 0;
    push({ step, winograd, names }, { layout, shape: out, stride }, IN_PLACE.has(layer.op));
  }
  if (dense) convert('nchw', 0);

  const sizes = values.map((value) => (value.side === 'outside' ? 0 : valueBytes(value)));
  const pairs = jobs.map((_, i) => {
    const [a, b] = [sizes[i] as number, sizes[i + 1] as number];
    return values[i]?.side === values[i + 1]?.side ? Math.max(a, b) : a + b;
  });
  const bytes = Math.max(sizes[0] as number, ...pairs);
  const placed = values.map(({ side, ...value }, i): Placed => {
    return { ...value, offset: side === 'top' ? bytes - (sizes[i] as number) : 0, outside: side === 'outside' };
  });
  return {
    calls: jobs.map((job, i) => ({ ...job, input: placed[i] as Placed, output: placed[i + 1] as Placed })),
    last: placed.at(-1) as Placed,
    bytes,
    workspaceBytes,
  };
}

/** How a convolution runs by Winograd's method, if that is the cheaper one for its input. */
function chooseWinograd(layer: Conv2d, shape: readonly number[], pool: boolean, threads: number): Winograd | undefined {
  const [images = 0, , height = 0, width = 0] = shape;
  if (chooseAlgorithm(layer, images, height, width) === 'direct') return undefined;
  return { ...shareTiles(layer, tileCount(images, height, width), threads), pool };
}
