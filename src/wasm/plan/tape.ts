import type { RunOptions } from '../../backend.js';
import { VGGNetError } from '../../errors.js';
import type { Step } from '../../program/fuse.js';
import { savedBy, trainedOf } from '../../program/gradient.js';
import type { BatchNorm2d, Conv2d, Layer } from '../../program/layers.js';
import { layerIndex } from '../../program/names.js';
import { outputShape } from '../../program/shape.js';
import {
  type Algorithm,
  convolutionCost,
  isTransformed,
  TILE_SIZES,
  type TileSize,
  tileCount,
  transformedBytes,
  type WinogradOption,
} from './algorithm.js';
import { align, BYTES, channelStride, type Layout, type Value, valueBytes } from './layout.js';
import { mib } from './pages.js';
import { inputStride } from './parameter-bytes.js';
import { INPUT_LAYOUT, type KernelCall, type PlacedValue, type Winograd } from './plan.js';
import { partitionTiles, winogradWorkspace } from './workspace.js';

/*
 * The plan of a recorded forward, and of the memory of its backward. What program/gradient.ts says that a layer saves gets a
 * place of its own at the bottom of the arena; everything above serves one step at a time.
 */

/** One step of a recorded forward. */
export interface TapeStep {
  readonly call: KernelCall;
  /** The operation writes over its input, which is kept: it is copied to the output first. */
  readonly copies: boolean;
  /** Of a max-pool: where it keeps the maxima, in bytes from the start of the arena. */
  readonly argmax: number | undefined;
}

/** What the backward of a layer reads. */
export interface TapeLayer {
  /** In place only if the layer saves it. */
  readonly input: PlacedValue;
  readonly output: PlacedValue;
  readonly argmax: number | undefined;
  /**
   * Of a ReLU before a max-pool: its output is not kept. A gradient passes where the pooled value is not ≤ 0, and has to do
   * so before it is spread over the windows.
   */
  readonly masksPooled: boolean;
  /** Of a convolution: how the gradient of its input is computed. */
  readonly winograd: Winograd | undefined;
}

export interface TapePlan {
  readonly steps: readonly TapeStep[];
  readonly layers: readonly TapeLayer[];
  /** Offsets of two buffers for gradients, which take turns, and of the workspace. */
  readonly gradients: readonly [number, number];
  readonly workspace: number;
  readonly arenaBytes: number;
}

export interface TapeOptions {
  readonly layers: readonly Layer[];
  readonly algorithms: readonly Algorithm[];
  readonly winograd: WinogradOption;
  readonly threads: number;
  readonly arenaLimit: number;
  readonly trained: ReadonlySet<string>;
}

/** A buffer, before it has a place. */
interface Buffer {
  readonly value: Value;
  kept: boolean;
  offset: number;
}

/** A value in a buffer, which another shape of it may share. */
interface Slot {
  readonly value: Value;
  readonly buffer: Buffer;
}

interface UnplacedStep {
  readonly step: Step | undefined;
  readonly names: readonly string[];
  readonly input: Slot;
  readonly output: Slot;
  readonly copies: boolean;
  readonly winograd: Winograd | undefined;
  readonly argmaxBytes: number;
}

interface UnplacedLayer {
  readonly input: Slot;
  output: Slot;
  masksPooled: boolean;
  /** The step that makes it. */
  readonly step: number;
}

/**
 * Plans a recorded forward for one input shape.
 * @throws VGGNetError `OUT_OF_MEMORY`, which says what is needed; `UNKNOWN_LAYER`
 */
export function makeTapePlan(options: TapeOptions, shape: readonly number[], run: RunOptions): TapePlan {
  return place(options, new Recorder(options, run).record(shape));
}

/** Walks the layers, and decides what is fused, what is kept and what is computed over its input. */
class Recorder {
  readonly #options: TapeOptions;
  readonly #run: RunOptions;
  readonly #steps: UnplacedStep[] = [];
  readonly #layers: UnplacedLayer[] = [];

  constructor(options: TapeOptions, run: RunOptions) {
    this.#options = options;
    this.#run = run;
  }

  record(shape: readonly number[]): { steps: UnplacedStep[]; layers: UnplacedLayer[] } {
    const last = Math.max(...this.#run.outputs.map((name) => layerIndex(this.#options.layers, name)));
    let current = newSlot({ layout: 'nchw', shape, stride: 0 });
    for (let index = 0; index <= last; index++) {
      current = this.#read(index, current);
      const fused = this.#fused(index, last);
      current = this.#step(index, fused, current);
      index += fused.length;
    }
    return { steps: this.#steps, layers: this.#layers };
  }

  #layer(index: number): Layer {
    return this.#options.layers[index] as Layer;
  }

  #isRecorded(index: number): boolean {
    return this.#run.outputs.includes(this.#layer(index).name);
  }

  #saves(index: number): ReadonlySet<string> {
    return savedBy(this.#layer(index), this.#run.mode, this.#options.trained);
  }

  /** The value in the layout that a layer reads. */
  #read(index: number, from: Slot): Slot {
    const layer = this.#layer(index);
    const wants = INPUT_LAYOUT[layer.op];
    if (wants === 'any' || wants === from.value.layout) return from;
    const channels = from.value.shape[1] as number;
    const stride = layer.op === 'conv2d' ? inputStride(layer, index) : channelStride(channels);
    const to = newSlot({ layout: wants, shape: from.value.shape, stride: wants === 'nhwc' ? stride : 0 });
    this.#push({ step: undefined, names: [], input: from, output: to });
    return to;
  }

  /** The layers after this one that its step computes too: batch norm with running statistics, and ReLU. */
  #fused(index: number, last: number): Layer[] {
    const { layers, trained } = this.#options;
    const { op } = this.#layer(index);
    const fused: Layer[] = [];
    const next = (): Layer | undefined => {
      const at = index + fused.length;
      return at < last && !this.#isRecorded(at) ? layers[at + 1] : undefined;
    };
    const norm = next();
    if (
      op === 'conv2d' &&
      this.#run.mode === 'eval' &&
      norm?.op === 'batchNorm2d' &&
      trainedOf(norm, trained).length === 0
    ) {
      fused.push(norm);
    }
    const relu = next();
    if ((op === 'conv2d' || op === 'linear' || op === 'batchNorm2d') && relu?.op === 'relu') fused.push(relu);
    return fused;
  }

  #step(index: number, fused: readonly Layer[], input: Slot): Slot {
    const layer = this.#layer(index);
    const saves = this.#saves(index);
    if (saves.has('input')) input.buffer.kept = true;
    const names = [this.#layer(index + fused.length).name];
    const step: Step = {
      layer,
      index,
      batchNorm: fused.find((one): one is BatchNorm2d => one.op === 'batchNorm2d'),
      relu: fused.some(({ op }) => op === 'relu'),
      names,
      requested: this.#isRecorded(index + fused.length),
    };
    const shape = outputShape(layer, input.value.shape);
    if (layer.op === 'flatten' || (layer.op === 'dropout' && this.#run.mode === 'eval')) {
      const output = { value: { ...input.value, shape }, buffer: input.buffer };
      this.#push({ step: undefined, names, input: output, output });
      return this.#add(index, input, output);
    }
    if (layer.op === 'maxPool2d') this.#maskPooled(index, input);
    const inPlace = layer.op === 'batchNorm2d' || layer.op === 'relu' || layer.op === 'dropout';
    const layout: Layout = layer.op === 'adaptiveAvgPool2d' ? 'nchw' : input.value.layout;
    const value = { layout, shape, stride: layout === 'nhwc' ? channelStride(shape[1] as number) : 0 };
    const output = inPlace && !input.buffer.kept ? { value, buffer: input.buffer } : newSlot(value);
    this.#push({
      step,
      names,
      input,
      output,
      copies: inPlace && input.buffer.kept,
      winograd: layer.op === 'conv2d' ? this.#winograd(layer, index, input.value) : undefined,
      argmaxBytes: layer.op === 'maxPool2d' ? argmaxBytes(value) : 0,
    });
    if (saves.has('output') || step.relu) output.buffer.kept = true;
    if (layer.op === 'maxPool2d' && this.#layers.at(-1)?.masksPooled) output.buffer.kept = true;
    this.#add(index, input, output);
    for (const [i] of fused.entries()) this.#add(index + 1 + i, output, output);
    return output;
  }

  /** A ReLU before a pool keeps nothing, unless cotangents may come between the two. */
  #maskPooled(index: number, input: Slot): void {
    const before = this.#layers.at(-1);
    if (!before || this.#layer(index - 1).op !== 'relu' || this.#isRecorded(index - 1)) return;
    before.masksPooled = true;
    input.buffer.kept = false;
  }

  #winograd(layer: Conv2d, index: number, input: Value): Winograd | undefined {
    const { algorithms, winograd, threads } = this.#options;
    const size = algorithms[index];
    if (!isTransformed(size)) return undefined;
    const [, , height = 0, width = 0] = input.shape;
    const forced = typeof winograd === 'number';
    const isCheaper = convolutionCost(layer, size, height, width) < convolutionCost(layer, 'direct', height, width);
    return forced || isCheaper ? winogradOf(layer, size, input, input.stride, threads) : undefined;
  }

  #push(step: Partial<UnplacedStep> & Pick<UnplacedStep, 'step' | 'names' | 'input' | 'output'>): void {
    this.#steps.push({ copies: false, winograd: undefined, argmaxBytes: 0, ...step });
  }

  #add(index: number, input: Slot, output: Slot): Slot {
    this.#layers[index] = { input, output, masksPooled: false, step: this.#steps.length - 1 };
    return output;
  }
}

function newSlot(value: Value): Slot {
  return { value, buffer: { value, kept: false, offset: 0 } };
}

function argmaxBytes({ shape, stride }: Value): number {
  const [n = 0, , h = 0, w = 0] = shape;
  return align((n * h * w * stride) / 4);
}

function winogradOf(layer: Conv2d, size: TileSize, { shape }: Value, inStride: number, threads: number): Winograd {
  const [images = 0, , height = 0, width = 0] = shape;
  const partition = partitionTiles(layer, tileCount(size, images, height, width), threads);
  const outStride = channelStride(layer.outChannels);
  return { size, ...partition, workspace: winogradWorkspace(size, partition, inStride, outStride, threads) };
}

/** Products that making one transformed weight takes as long as. */
const TRANSFORM_WEIGHT = 26;

/** How the gradient of a convolution's input is computed: as a forward with inputs and outputs exchanged. */
function winogradBackward(layer: Conv2d, { winograd, threads }: TapeOptions, output: Value): Winograd | undefined {
  const flipped: Conv2d = { ...layer, inChannels: layer.outChannels, outChannels: layer.inChannels };
  const [images = 0, , height = 0, width = 0] = output.shape;
  // The weights are transformed once in each backward pass, so a batch shares that.
  const cost = (size: TileSize): number =>
    convolutionCost(flipped, size, height, width) +
    (TRANSFORM_WEIGHT * transformedBytes(flipped, size)) / BYTES / images;
  const sizes = winograd === false ? [] : winograd === true ? TILE_SIZES : [winograd];
  const [size] = [...sizes].sort((a, b) => cost(a) - cost(b));
  if (size === undefined) return undefined;
  if (winograd === true && cost(size) >= convolutionCost(flipped, 'direct', height, width)) return undefined;
  return winogradOf(flipped, size, output, output.stride, threads);
}

/** The parts of the workspace of a convolution's backward, by their bytes. */
export function flippedParts(
  layer: Conv2d,
  winograd: Winograd | undefined,
): Record<'ends' | 'flipped' | 'transformed', number> {
  const [inStride, outStride] = [channelStride(layer.inChannels), channelStride(layer.outChannels)];
  return {
    // Scales of one and shifts of zero.
    ends: 2 * align(inStride * BYTES),
    flipped: align(9 * inStride * outStride * BYTES),
    transformed: winograd
      ? transformedBytes({ ...layer, inChannels: layer.outChannels, outChannels: layer.inChannels }, winograd.size)
      : 0,
  };
}

/** Bytes of the vectors that the backward of a layer's batch norm or bias works with: sums in float64, four of float32. */
export function vectorBytes(channels: number): number {
  return channelStride(channels) * (2 * 8 + 4 * BYTES);
}

/** The layout in which the gradient of a value is: as the value, in whole vectors of channels. */
export function gradientValue(value: Value): Value {
  return value.layout === 'nhwc' ? { ...value, stride: channelStride(value.shape[1] as number) } : value;
}

/** Gives every buffer its place. */
function place(options: TapeOptions, { steps, layers }: { steps: UnplacedStep[]; layers: UnplacedLayer[] }): TapePlan {
  let kept = 0;
  const take = (bytes: number): number => {
    const offset = kept;
    kept += bytes;
    return offset;
  };
  const buffers = new Set(steps.flatMap(({ input, output }) => [input.buffer, output.buffer]));
  for (const buffer of buffers) if (buffer.kept) buffer.offset = take(valueBytes(buffer.value));
  const argmax = steps.map(({ argmaxBytes }) => (argmaxBytes > 0 ? take(argmaxBytes) : undefined));

  // What is not kept takes turns between two places above; a step's workspace is above both.
  const passing = [...buffers].filter((buffer) => !buffer.kept);
  const largest = Math.max(0, ...passing.map((buffer) => valueBytes(buffer.value)));
  for (const [i, buffer] of passing.entries()) buffer.offset = kept + (i % 2) * largest;
  const forwardWorkspace = kept + 2 * largest;
  const forwardBytes = forwardWorkspace + Math.max(0, ...steps.map(({ winograd }) => winograd?.workspace.bytes ?? 0));

  const values = layers.flatMap(({ input, output }) => [input.value, output.value]);
  const gradientBytes = Math.max(...values.map((value) => valueBytes(gradientValue(value))));
  const gradients = [kept, kept + gradientBytes] as const;
  const workspace = kept + 2 * gradientBytes;
  const placed = layers.map((layer, index): TapeLayer & { bytes: number } => {
    const { input, output, masksPooled, step } = layer;
    const op = options.layers[index] as Layer;
    const winograd = op.op === 'conv2d' ? winogradBackward(op, options, gradientValue(output.value)) : undefined;
    const parts = op.op === 'conv2d' ? flippedParts(op, winograd) : undefined;
    const conv = parts ? parts.ends + parts.flipped + parts.transformed + (winograd?.workspace.bytes ?? 0) : 0;
    const vectors = vectorBytes(op.op === 'batchNorm2d' ? op.channels : op.op === 'conv2d' ? op.outChannels : 0);
    // A cotangent comes in PyTorch's order.
    const staged = valueBytes({ layout: 'nchw', shape: output.value.shape, stride: 0 });
    return {
      input: at(input),
      output: at(output),
      argmax: op.op === 'maxPool2d' ? argmax[step] : undefined,
      masksPooled,
      winograd,
      bytes: Math.max(conv, vectors, staged),
    };
  });
  const arenaBytes = Math.max(forwardBytes, workspace + Math.max(...placed.map(({ bytes }) => bytes)));
  if (arenaBytes > options.arenaLimit) {
    throw new VGGNetError(
      'OUT_OF_MEMORY',
      `Recording this input needs ${mib(arenaBytes)} for activations and their gradients, and the weights leave ` +
        `${mib(Math.max(0, options.arenaLimit))}: record fewer images at a time or smaller ones, or raise memoryLimit`,
    );
  }
  return {
    steps: steps.map(({ step, names, input, output, copies, winograd }, i) => ({
      call: {
        step,
        names,
        input: at(input),
        output: at(output),
        winograd,
        int8: undefined,
        pool: false,
        workspace: forwardWorkspace,
      },
      copies,
      argmax: argmax[i],
    })),
    layers: placed,
    gradients,
    workspace,
    arenaBytes,
  };
}

function at({ value, buffer }: Slot): PlacedValue {
  return { ...value, offset: buffer.offset, outside: false };
}
