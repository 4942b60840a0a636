import type { RunOptions } from '../../backend.js';
import { fuse, type Step } from '../../program/fuse.js';
import type { Conv2d, Layer } from '../../program/layers.js';
import { outputShape } from '../../program/shape.js';
import {
  canRunInInt8,
  cheapestForm,
  digitBytes,
  type Form,
  type Int8Speed,
  type Int8Workspace,
  int8Workspace,
  isTransformed,
  MAX_BLOCK,
  poolsDirectly,
  shareTiles,
  type TileSize,
  tileCount,
  type Workspace,
  winogradWorkspace,
} from './algorithm.js';
import { channelStride, type Layout, type Value, valueBytes } from './layout.js';
import { inputStride } from './parameter-bytes.js';

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
  /** Set for a convolution or a linear layer in whole numbers. */
  readonly int8: Int8Workspace | undefined;
  /** The output is the 2×2 max-pool of the convolution's. */
  readonly pool: boolean;
  /** Where its workspace lies, in bytes from the start of the arena. */
  readonly workspace: number;
  /** The layers whose output this call makes. */
  readonly names: readonly string[];
}

export interface Winograd {
  /** m of F(m×m, 3×3). */
  readonly size: TileSize;
  /** Tiles that go through the stages at once. */
  readonly block: number;
  /** The threads share each block; otherwise each has tiles of its own. */
  readonly together: boolean;
  readonly workspace: Workspace;
}

/** What the planner has to know of the engine. */
export interface Planner {
  readonly layers: readonly Layer[];
  /** In which form each layer's weights are there, besides the direct one. */
  readonly forms: readonly Form[];
  /** The forms are to be used at any size of the input. */
  readonly forced: boolean;
  readonly threads: number;
  /** Default 'none'. */
  readonly int8?: Int8Speed | undefined;
  /** Bytes that the arena should not pass. */
  readonly arenaLimit: number;
}

/**
 * A forward for one input shape. The spatial layers run for `chunk` images at a time and leave what the classifier
 * reads in a buffer for the whole batch; the classifier then runs once, and reads its weights once.
 */
export interface Plan {
  /** Images that go through the whole network at once: a larger batch takes several passes. */
  readonly batch: number;
  readonly chunk: number;
  readonly spatial: readonly Call[];
  readonly dense: readonly Call[];
  /** The classifier's input for the whole batch, if there is a classifier. */
  readonly joint: Placed | undefined;
  readonly arenaBytes: number;
}

/** How much memory a plan may spend for speed. */
interface Thrift {
  /** Images are put together while their activations take no more bytes than this, and are run one by one otherwise. */
  readonly chunkBytes: number;
  /** Most tiles of a block of Winograd's method. */
  readonly block: number;
  /** Each convolution takes the form that needs the least memory, and not the one that needs the least time. */
  readonly least: boolean;
}

const MIB = 2 ** 20;
/** The first one whose plan fits is taken. */
const THRIFTS: readonly Thrift[] = [
  { chunkBytes: 64 * MIB, block: MAX_BLOCK, least: false },
  { chunkBytes: 16 * MIB, block: MAX_BLOCK, least: false },
  { chunkBytes: 0, block: MAX_BLOCK, least: false },
  { chunkBytes: 0, block: 48, least: false },
  { chunkBytes: 0, block: 24, least: false },
];
const LEAST: Thrift = { chunkBytes: 0, block: 12, least: true };

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

/**
 * The fastest plan that the limit of the arena allows, or the one that needs the least if none does: smaller chunks and
 * blocks, then a batch in several passes, each of which reads the classifier's weights again, and then forms that are
 * slower. So an image's forms, and with them its bits, are the same in any batch.
 */
export function makePlan(planner: Planner, shape: readonly number[], options: RunOptions): Plan {
  const steps = fuse(planner.layers, options.outputs, options.mode);
  // Batch norm in train mode needs the whole batch at once.
  const whole = options.mode === 'train';
  const lay = (batch: number, thrift: Thrift): Plan =>
    layOut(planner, steps, [batch, ...shape.slice(1)], whole, thrift);
  let batch = shape[0] as number;
  for (; ; batch = Math.ceil(batch / 2)) {
    // One image makes one chunk.
    for (const thrift of batch === 1 ? THRIFTS.slice(2) : THRIFTS) {
      const plan = lay(batch, thrift);
      if (plan.arenaBytes <= planner.arenaLimit) return plan;
    }
    if (batch === 1 || whole) return lay(batch, LEAST);
  }
}

function layOut(
  planner: Planner,
  steps: readonly Step[],
  shape: readonly number[],
  whole: boolean,
  thrift: Thrift,
): Plan {
  const cut = steps.findIndex(({ layer }) => layer.op === 'flatten' || layer.op === 'linear');
  const spatialSteps = cut < 0 ? steps : steps.slice(0, cut);
  const batch = shape[0] as number;

  const lay = (images: number): Chain =>
    chain(planner, spatialSteps, [images, ...shape.slice(1)], thrift, { dense: cut >= 0 });
  let chunk = batch;
  let spatial = lay(chunk);
  if (!whole && spatial.bytes > thrift.chunkBytes) {
    chunk = Math.max(1, Math.min(batch, Math.floor(thrift.chunkBytes / lay(1).bytes)));
    spatial = lay(chunk);
  }
  const joint = cut < 0 ? undefined : { ...spatial.last, shape: [batch, ...spatial.last.shape.slice(1)], offset: 0 };
  // The joint value lies at the bottom and stays while both parts use the arena above it.
  const base = joint ? valueBytes(joint) : 0;
  const dense = joint ? chain(planner, steps.slice(cut), joint.shape, thrift, { from: 'outside' }) : undefined;
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
  return { ...call, input: up(call.input), output: up(call.output), workspace: call.workspace + base };
}

interface Chain {
  readonly calls: readonly Call[];
  /** What the last call makes. */
  readonly last: Placed;
  readonly bytes: number;
}

type Job = Omit<Call, 'input' | 'output' | 'workspace'>;
type Side = 'bottom' | 'top' | 'outside';

/**
 * Lays a chain of steps out in the arena: since a step needs its input and output alone, values lie in turn at the
 * arena's bottom and top, and its workspace between them. `from` says where the first value lies; `dense` asks for the last one in 'nchw'.
 */
function chain(
  planner: Planner,
  steps: readonly Step[],
  shape: readonly number[],
  thrift: Thrift,
  { from = 'bottom', dense = false }: { from?: Side; dense?: boolean },
): Chain {
  const values: (Value & { side: Side })[] = [{ layout: 'nchw', shape, stride: 0, side: from }];
  const jobs: Job[] = [];
  const current = (): Value & { side: Side } => values.at(-1) as Value & { side: Side };
  const push = (job: Job, value: Value, inPlace: boolean): void => {
    const { side } = current();
    values.push({ ...value, side: inPlace ? side : side === 'bottom' ? 'top' : 'bottom' });
    jobs.push(job);
  };
  const convert = (layout: Layout, stride: number): void => {
    if (current().layout === layout) return;
    const move = { step: undefined, winograd: undefined, int8: undefined, pool: false, names: [] };
    push(move, { layout, shape: current().shape, stride }, false);
  };

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
    let int8: Int8Workspace | undefined;
    let pool = false;
    if (layer.op === 'conv2d') {
      const [n = 0, , h = 0, w = 0] = input.shape;
      if (planner.forms[index] === 'int8') int8 = int8Workspace(n, h, w, input.stride, planner.threads);
      const next = steps[i + 1];
      // What was asked for is what a step makes, so a convolution with a name that is wanted keeps its output.
      pool = next?.layer.op === 'maxPool2d' && !step.wanted;
      winograd = chooseWinograd(planner, layer, index, input, pool, thrift);
      pool &&=
        winograd !== undefined || int8 !== undefined || poolsDirectly(layer, input.stride, input.shape[3] as number);
      if (pool) {
        out = outputShape((next as Step).layer, out);
        names = (next as Step).names;
        i++;
      }
    }
    if (layer.op === 'linear' && canRunInInt8(planner.layers, index, planner.int8 ?? 'none')) {
      int8 = { maxima: 0, bytes: digitBytes(input.shape[0] as number, layer.inFeatures) };
    }
    const layout = layer.op === 'adaptiveAvgPool2d' ? 'nchw' : input.layout;
    const stride = layout === 'nhwc' ? channelStride(out[1] as number) : 0;
    push({ step, winograd, int8, pool, names }, { layout, shape: out, stride }, IN_PLACE.has(layer.op));
  }
  if (dense) convert('nchw', 0);

  const sizes = values.map((value) => (value.side === 'outside' ? 0 : valueBytes(value)));
  const needs = jobs.map(({ winograd, int8 }, i) => {
    const [a, b] = [sizes[i] as number, sizes[i + 1] as number];
    const both = values[i]?.side === values[i + 1]?.side ? Math.max(a, b) : a + b;
    return both + (winograd?.workspace.bytes ?? int8?.bytes ?? 0);
  });
  const bytes = Math.max(sizes[0] as number, ...needs);
  const placed = values.map(({ side, ...value }, i): Placed => {
    return { ...value, offset: side === 'top' ? bytes - (sizes[i] as number) : 0, outside: side === 'outside' };
  });
  return {
    calls: jobs.map((job, i): Call => {
      // Above the value at the bottom.
      const workspace = sizes[values[i]?.side === 'bottom' ? i : i + 1] as number;
      return { ...job, input: placed[i] as Placed, output: placed[i + 1] as Placed, workspace };
    }),
    last: placed.at(-1) as Placed,
    bytes,
  };
}

/** How a convolution runs by Winograd's method, if it does. */
function chooseWinograd(
  { forms, forced, threads }: Planner,
  layer: Conv2d,
  index: number,
  input: Value,
  pool: boolean,
  thrift: Thrift,
): Winograd | undefined {
  const size = forms[index];
  if (!isTransformed(size)) return undefined;
  const [images = 0, , height = 0, width = 0] = input.shape;
  const share = shareTiles(layer, tileCount(size, images, height, width), threads, thrift.block);
  const outStride = channelStride(layer.outChannels);
  const workspace = winogradWorkspace(size, share, input.stride, outStride, threads);
  if (thrift.least && !forced) {
    // Directly the output is not pooled on the way, and takes four times the space.
    const output = valueBytes({ layout: 'nhwc', shape: [images, 0, height, width], stride: outStride });
    return workspace.bytes < (pool ? 0.75 * output : 0) ? { size, ...share, workspace } : undefined;
  }
  if (!forced && cheapestForm(layer, ['direct', size], height, width) === 'direct') return undefined;
  return { size, ...share, workspace };
}
