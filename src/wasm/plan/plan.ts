import type { RunOptions } from '../../backend.js';
import { fuse, fusiblePool, type Step } from '../../program/fuse.js';
import type { Conv2d, Layer } from '../../program/layers.js';
import { outputShape } from '../../program/shape.js';
import {
  type Algorithm,
  canRunInInt8,
  cheapestAlgorithm,
  type Int8Speed,
  isTransformed,
  poolsDirectly,
  type TileSize,
  tileCount,
} from './algorithm.js';
import { channelStride, type Layout, type Value, valueBytes } from './layout.js';
import { inputStride } from './parameter-bytes.js';
import {
  conv2dInt8Workspace,
  type Int8Workspace,
  linearInt8Workspace,
  MAX_BLOCK,
  partitionTiles,
  type TilePartition,
  type WinogradWorkspace,
  winogradWorkspace,
} from './workspace.js';

/** A value with its offset in the arena. */
export interface PlacedValue extends Value {
  /** Bytes from the start of the arena. */
  readonly offset: number;
  /** True for the classifier's input of the whole batch, which lies below the part of the arena that a chain uses. */
  readonly outside: boolean;
}

/** One call of a kernel. */
export interface KernelCall {
  /** Undefined for a copy of the input into another layout. */
  readonly step: Step | undefined;
  readonly input: PlacedValue;
  readonly output: PlacedValue;
  /** Set for a convolution by Winograd's method. */
  readonly winograd: Winograd | undefined;
  /** Set for a convolution or a linear layer in integers. */
  readonly int8: Int8Workspace | undefined;
  /** The output is the 2×2 max-pool of the convolution's. */
  readonly pool: boolean;
  /** Where its workspace begins, in bytes from the start of the arena. */
  readonly workspace: number;
  /** The layers whose output this call computes. */
  readonly names: readonly string[];
}

export interface Winograd extends TilePartition {
  /** m of F(m×m, 3×3). */
  readonly size: TileSize;
  readonly workspace: WinogradWorkspace;
}

/** The properties of an engine that its plans depend on. */
export interface PlanOptions {
  readonly layers: readonly Layer[];
  /** The algorithm that each layer's weights are stored for; the direct one is always possible too. */
  readonly algorithms: readonly Algorithm[];
  /** Use those algorithms for inputs of any size. */
  readonly forced: boolean;
  readonly threads: number;
  /** Default 'none'. */
  readonly int8?: Int8Speed | undefined;
  /** Bytes that the arena should not exceed. */
  readonly arenaLimit: number;
}

/**
 * A forward for one input shape. The spatial layers run for `chunk` images at a time and collect the classifier's input
 * for the whole batch; the classifier then runs once, and reads its weights once.
 */
export interface Plan {
  /** Images that go through the whole network at once: a larger batch takes several passes. */
  readonly batch: number;
  readonly chunk: number;
  readonly spatial: readonly KernelCall[];
  readonly dense: readonly KernelCall[];
  /** The classifier's input for the whole batch, if there is a classifier. */
  readonly classifierInput: PlacedValue | undefined;
  readonly arenaBytes: number;
}

/** How much memory a plan may spend for speed. */
interface MemoryBudget {
  /** Images run together while their activations take no more bytes than this, and one by one otherwise. */
  readonly chunkBytes: number;
  /** Most tiles of a block of Winograd's method. */
  readonly block: number;
  /** Each convolution takes the algorithm that needs the least memory instead of the fastest. */
  readonly smallest: boolean;
}

const MIB = 2 ** 20;
/** The first budget whose plan fits is taken. */
const BUDGETS: readonly MemoryBudget[] = [
  { chunkBytes: 64 * MIB, block: MAX_BLOCK, smallest: false },
  { chunkBytes: 16 * MIB, block: MAX_BLOCK, smallest: false },
  { chunkBytes: 0, block: MAX_BLOCK, smallest: false },
  { chunkBytes: 0, block: 48, smallest: false },
  { chunkBytes: 0, block: 24, smallest: false },
];
const SMALLEST: MemoryBudget = { chunkBytes: 0, block: 12, smallest: true };

/** The layout that an operation reads; 'any' keeps its input's. */
const INPUT_LAYOUT: Record<Layer['op'], Layout | 'any'> = {
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
 * The fastest plan within the limit of the arena, or the smallest one if none is. Tried in turn: smaller chunks and
 * blocks; a batch in several passes, each of which reads the classifier's weights again; slower algorithms. Because those
 * come last, an image has the same algorithms, and so the same bits, in any batch.
 * @throws VGGNetError `UNKNOWN_LAYER`
 */
export function makePlan(options: PlanOptions, shape: readonly number[], run: RunOptions): Plan {
  const steps = fuse(options.layers, run.outputs, run.mode);
  // Batch norm in train mode needs the whole batch at once.
  const whole = run.mode === 'train';
  const planFor = (batch: number, budget: MemoryBudget): Plan =>
    layOut(options, steps, [batch, ...shape.slice(1)], whole, budget);
  let batch = shape[0] as number;
  for (; ; batch = Math.ceil(batch / 2)) {
    // One image makes one chunk.
    for (const budget of batch === 1 ? BUDGETS.slice(2) : BUDGETS) {
      const plan = planFor(batch, budget);
      if (plan.arenaBytes <= options.arenaLimit) return plan;
    }
    if (batch === 1 || whole) return planFor(batch, SMALLEST);
  }
}

function layOut(
  options: PlanOptions,
  steps: readonly Step[],
  shape: readonly number[],
  whole: boolean,
  budget: MemoryBudget,
): Plan {
  const split = steps.findIndex(({ layer }) => layer.op === 'flatten' || layer.op === 'linear');
  const spatialSteps = split < 0 ? steps : steps.slice(0, split);
  const batch = shape[0] as number;

  const chainOf = (images: number): Chain =>
    chain(options, spatialSteps, [images, ...shape.slice(1)], budget, { dense: split >= 0 });
  let chunk = batch;
  let spatial = chainOf(chunk);
  if (!whole && spatial.bytes > budget.chunkBytes) {
    chunk = Math.max(1, Math.min(batch, Math.floor(budget.chunkBytes / chainOf(1).bytes)));
    spatial = chainOf(chunk);
  }
  const classifierInput =
    split < 0 ? undefined : { ...spatial.last, shape: [batch, ...spatial.last.shape.slice(1)], offset: 0 };
  // It lies at the bottom and stays there while both parts use the arena above it.
  const base = classifierInput ? valueBytes(classifierInput) : 0;
  const dense = classifierInput
    ? chain(options, steps.slice(split), classifierInput.shape, budget, { from: 'outside' })
    : undefined;
  return {
    batch,
    chunk,
    spatial: spatial.calls.map((call) => raise(call, base)),
    dense: dense?.calls.map((call) => raise(call, base)) ?? [],
    classifierInput,
    arenaBytes: base + Math.max(spatial.bytes, dense?.bytes ?? 0),
  };
}

/** The call with its part of the arena moved up by `base` bytes. */
function raise(call: KernelCall, base: number): KernelCall {
  const up = (value: PlacedValue): PlacedValue => ({
    ...value,
    offset: value.outside ? value.offset : value.offset + base,
  });
  return { ...call, input: up(call.input), output: up(call.output), workspace: call.workspace + base };
}

interface Chain {
  readonly calls: readonly KernelCall[];
  /** The output of the last call. */
  readonly last: PlacedValue;
  readonly bytes: number;
}

type UnplacedCall = Omit<KernelCall, 'input' | 'output' | 'workspace'>;
type Side = 'bottom' | 'top' | 'outside';

/**
 * Lays a chain of steps out in the arena. A step needs only its input and output, so values alternate between the arena's
 * bottom and top, with the workspace between them. `from` says where the first value lies; `dense` asks for the last one
 * in 'nchw'.
 */
function chain(
  options: PlanOptions,
  steps: readonly Step[],
  shape: readonly number[],
  budget: MemoryBudget,
  { from = 'bottom', dense = false }: { from?: Side; dense?: boolean },
): Chain {
  const values: (Value & { side: Side })[] = [{ layout: 'nchw', shape, stride: 0, side: from }];
  const unplaced: UnplacedCall[] = [];
  const current = (): Value & { side: Side } => values.at(-1) as Value & { side: Side };
  const push = (call: UnplacedCall, value: Value, inPlace: boolean): void => {
    const { side } = current();
    values.push({ ...value, side: inPlace ? side : side === 'bottom' ? 'top' : 'bottom' });
    unplaced.push(call);
  };
  const convert = (layout: Layout, stride: number): void => {
    if (current().layout === layout) return;
    const move = { step: undefined, winograd: undefined, int8: undefined, pool: false, names: [] };
    push(move, { layout, shape: current().shape, stride }, false);
  };

  for (let i = 0; i < steps.length; i++) {
    const step = steps[i] as Step;
    const { layer, index } = step;
    const layoutIn = INPUT_LAYOUT[layer.op];
    if (layoutIn === 'nhwc') {
      const channels = current().shape[1] as number;
      convert('nhwc', layer.op === 'conv2d' ? inputStride(layer, index) : channelStride(channels));
    }
    if (layoutIn === 'nchw') convert('nchw', 0);
    const input = current();
    let out = outputShape(layer, input.shape);
    let names = step.names;
    let winograd: Winograd | undefined;
    let int8: Int8Workspace | undefined;
    let pool = false;
    if (layer.op === 'conv2d') {
      const [n = 0, , h = 0, w = 0] = input.shape;
      if (options.algorithms[index] === 'int8') int8 = conv2dInt8Workspace(n, h, w, input.stride, options.threads);
      const next = fusiblePool(steps, i);
      winograd = chooseWinograd(options, layer, index, input, next !== undefined, budget);
      if (next && (winograd || int8 || poolsDirectly(layer, input.stride, w))) {
        pool = true;
        out = outputShape(next.layer, out);
        names = next.names;
        i++;
      }
    }
    if (layer.op === 'linear' && canRunInInt8(options.layers, index, options.int8 ?? 'none')) {
      int8 = linearInt8Workspace(input.shape[0] as number, layer.inFeatures);
    }
    const layout = layer.op === 'adaptiveAvgPool2d' ? 'nchw' : input.layout;
    const stride = layout === 'nhwc' ? channelStride(out[1] as number) : 0;
    push({ step, winograd, int8, pool, names }, { layout, shape: out, stride }, IN_PLACE.has(layer.op));
  }
  if (dense) convert('nchw', 0);

  const sizes = values.map((value) => (value.side === 'outside' ? 0 : valueBytes(value)));
  const needs = unplaced.map(({ winograd, int8 }, i) => {
    const [a, b] = [sizes[i] as number, sizes[i + 1] as number];
    const both = values[i]?.side === values[i + 1]?.side ? Math.max(a, b) : a + b;
    return both + (winograd?.workspace.bytes ?? int8?.bytes ?? 0);
  });
  const bytes = Math.max(sizes[0] as number, ...needs);
  const placed = values.map(({ side, ...value }, i): PlacedValue => {
    return { ...value, offset: side === 'top' ? bytes - (sizes[i] as number) : 0, outside: side === 'outside' };
  });
  return {
    calls: unplaced.map((call, i): KernelCall => {
      // Above the value at the bottom.
      const workspace = sizes[values[i]?.side === 'bottom' ? i : i + 1] as number;
      return { ...call, input: placed[i] as PlacedValue, output: placed[i + 1] as PlacedValue, workspace };
    }),
    last: placed.at(-1) as PlacedValue,
    bytes,
  };
}

/** The parameters of Winograd's method for a convolution, or undefined if another algorithm computes it. */
function chooseWinograd(
  { algorithms, forced, threads }: PlanOptions,
  layer: Conv2d,
  index: number,
  input: Value,
  pool: boolean,
  budget: MemoryBudget,
): Winograd | undefined {
  const size = algorithms[index];
  if (!isTransformed(size)) return undefined;
  const [images = 0, , height = 0, width = 0] = input.shape;
  const partition = partitionTiles(layer, tileCount(size, images, height, width), threads, budget.block);
  const outStride = channelStride(layer.outChannels);
  const workspace = winogradWorkspace(size, partition, input.stride, outStride, threads);
  if (budget.smallest && !forced) {
    // The direct kernel does not fuse the pool, so its output takes four times the space.
    const output = valueBytes({ layout: 'nhwc', shape: [images, 0, height, width], stride: outStride });
    return workspace.bytes < (pool ? 0.75 * output : 0) ? { size, ...partition, workspace } : undefined;
  }
  if (!forced && cheapestAlgorithm(layer, ['direct', size], height, width) === 'direct') return undefined;
  return { size, ...partition, workspace };
}
