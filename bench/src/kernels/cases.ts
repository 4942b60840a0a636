import type { Conv2d, Linear } from '../../../src/program/layers.js';
import {
  type Algorithm,
  cheapestAlgorithm,
  pointsOf,
  TILE_SIZES,
  type TileSize,
  tileCount,
} from '../../../src/wasm/plan/algorithm.js';
import {
  CONVOLUTION,
  EPILOGUE,
  GEMM,
  LINEAR,
  MAX_POOL2D,
  type StructValues,
  WINOGRAD,
} from '../../../src/wasm/plan/args.js';
import { partitionTiles, winogradWorkspace } from '../../../src/wasm/plan/workspace.js';
import { type LayerCost, layerCosts } from '../network.js';
import type { Arena } from './arena.js';

/*
 * The cases of the benchmark's kernel level. To add a kernel, write a function that makes its cases and call it in
 * `kernelCases`. A case uses an export of the kernels, with its arguments as assembly/ describes them.
 */

export interface KernelCase {
  /** `operation/which`, the end of the row's id. */
  readonly name: string;
  /** Layers of VGG16 that have this shape; the first one names the case. */
  readonly layers: readonly string[];
  /** The sizes, for the table. */
  readonly shape: string;
  readonly input: readonly number[];
  /** Of the direct method. */
  readonly macs: number;
  readonly bytes: number;
  /** Part of a quick run. */
  readonly quick: boolean;
  /** The export that it uses: a function, or the constant of an operation of `parallel`. */
  readonly needs: string;
  setup(arena: Arena): PreparedKernel;
}

export interface PreparedKernel {
  run(): void;
  /** The largest error of some results spread over the output, against sums in float64. */
  error(): number;
}

/** The measurements of one case. Times are milliseconds, sorted. */
export interface KernelSamples {
  readonly samples: readonly number[];
  readonly warmup: number;
  /** Of the limit of the case, taken right before it: the bare micro-kernel, or a read of memory. */
  readonly peakSamples: readonly number[];
  /** Of one of `peakSamples`: its multiply-accumulates, or its bytes. */
  readonly peakMacs?: number;
  readonly peakBytes?: number;
  readonly error: number;
}

/** The limits of the machine are cases too, by these names. */
export const PEAK = 'limit/compute';
export const STREAM = 'limit/memory';

/** True of a case with less than one multiply-accumulate per byte, which memory limits and not the micro-kernel. */
export function readsMemory({ macs, bytes }: { readonly macs: number; readonly bytes: number }): boolean {
  return macs > 0 && macs < bytes;
}

/** Bytes of one stream of reads: more than any cache. */
export const STREAM_BYTES: number = 2 ** 28;
const MODEL = 'vgg16';
const SIZE = 224;

/** Results that are checked in one output. */
const CHECKED = 64;

export function kernelCases(): KernelCase[] {
  const costs = layerCosts(MODEL, 1, SIZE);
  const convolutions = distinct(costs, isConv2d);
  return [
    ...convolutions.map(([cost, layers]) => gemm(cost, layers)),
    ...convolutions.map(([cost, layers]) => conv2d(cost, layers)),
    ...TILE_SIZES.flatMap((size) =>
      convolutions.filter(([cost]) => suitsWinograd(cost)).map(([cost, layers]) => winograd(cost, layers, size)),
    ),
    ...costs.filter(({ layer }) => layer.op === 'maxPool2d').map(maxPool2d),
    ...costs.filter(isLinear).map((cost) => linear(cost)),
    ...layerCosts(MODEL, 8, SIZE)
      .filter(isLinear)
      .map((cost) => linear(cost)),
  ];
}

type Cost<L> = LayerCost & { readonly layer: L };

function isConv2d(cost: LayerCost): cost is Cost<Conv2d> {
  return cost.layer.op === 'conv2d';
}

function isLinear(cost: LayerCost): cost is Cost<Linear> {
  return cost.layer.op === 'linear';
}

/** One of each shape, with the names of all layers that have it. */
function distinct<L>(costs: readonly LayerCost[], is: (cost: LayerCost) => cost is Cost<L>): [Cost<L>, string[]][] {
  const found = new Map<string, [Cost<L>, string[]]>();
  for (const cost of costs) {
    if (!is(cost)) continue;
    const key = [...cost.inShape, ...cost.outShape].join();
    const entry = found.get(key) ?? [cost, []];
    entry[1].push(cost.layer.name);
    found.set(key, entry);
  }
  return [...found.values()];
}

/** Channels of a pixel as the engine stores them: the image's three as they are, others in whole vectors. */
function stride(channels: number): number {
  return channels <= 3 ? channels : Math.ceil(channels / 8) * 8;
}

/** Indices spread over `count` values by the golden ratio. */
function spread(count: number): number[] {
  return Array.from({ length: Math.min(CHECKED, count) }, (_, k) => Math.floor(((k * 0.618033988749895) % 1) * count));
}

/** The convolution's product, from a matrix: M pixels, N output channels, K = 9 · input channels. */
function gemm({ layer, outShape, macs }: Cost<Conv2d>, layers: string[]): KernelCase {
  const m = (outShape[2] as number) * (outShape[3] as number);
  const n = layer.outChannels;
  const k = 9 * layer.inChannels;
  return {
    name: `gemm/${layers[0]}`,
    layers,
    shape: `M ${m}, N ${n}, K ${k}`,
    input: [m, k],
    macs,
    bytes: 4 * (m * k + k * n + m * n),
    quick: layers[0] === 'conv3_2',
    needs: 'gemm',
    setup(arena) {
      const [a, b, c] = [arena.random(m * k), arena.random(n * k), arena.zeros(m * n)];
      const [scale, shift] = ones(arena, n);
      const scratch = arena.bytes(arena.constant('SCRATCH'));
      const epilogue = { scale, shift, relu: 0, outChannels: n };
      const args = arena.struct([EPILOGUE, GEMM], { ...epilogue, m, n, k, a, lda: k, b, c, ldc: n, scratch });
      return {
        run: () => void arena.kernels.gemm?.(args),
        error() {
          const { f32 } = arena;
          return worst(spread(m * n), (at) => {
            const [row, column] = [Math.floor(at / n), at % n];
            let sum = 0;
            for (let i = 0; i < k; i++) sum += value(f32, a, row * k + i) * value(f32, b, packed(k, i, column));
            return sum - value(f32, c, at);
          });
        },
      };
    },
  };
}

function conv2d(cost: Cost<Conv2d>, layers: string[]): KernelCase {
  return {
    ...convolution(cost, layers),
    name: `conv2d/${layers[0]}`,
    // The engine computes the others by Winograd's method.
    quick: !suitsWinograd(cost) || layers[0] === 'conv3_2',
    needs: 'CONV2D',
    setup(arena) {
      const at = placeConvolution(arena, cost);
      const run = arena.operation('CONV2D', [EPILOGUE, CONVOLUTION], at);
      return { run, error: () => convolutionError(arena, at) };
    },
  };
}

/** The algorithm that the engine chooses. */
function algorithmOf({ layer, outShape }: Cost<Conv2d>): Algorithm {
  if (layer.inChannels <= 3) return 'direct';
  const [, , height = 0, width = 0] = outShape;
  return cheapestAlgorithm(layer, ['direct', ...TILE_SIZES], height, width);
}

function suitsWinograd(cost: Cost<Conv2d>): boolean {
  return algorithmOf(cost) !== 'direct';
}

/** F(m×m, 3×3) with m = `size`. */
function winograd(cost: Cost<Conv2d>, layers: string[], size: TileSize): KernelCase {
  return {
    ...convolution(cost, layers),
    name: `winograd${size}/${layers[0]}`,
    // The engine computes the others by another algorithm.
    quick: algorithmOf(cost) === size,
    needs: 'WINOGRAD',
    setup(arena) {
      const at = placeConvolution(arena, cost);
      const { height, width, inStride, outChannels } = at;
      const kernels = arena.kernels as Record<string, (...args: number[]) => number>;
      const tiles = tileCount(size, 1, height, width);
      const partition = partitionTiles(cost.layer, tiles, 1);
      const transformed = arena.zeros(pointsOf(size) * inStride * outChannels);
      kernels.packWinograd?.(size, at.weights, transformed, outChannels, inStride, arena.bytes(20_480));
      const { bytes, ...layout } = winogradWorkspace(size, partition, inStride, outChannels, 1);
      const workspace = arena.bytes(bytes);
      const run = arena.operation('WINOGRAD', [EPILOGUE, CONVOLUTION, WINOGRAD], {
        ...at,
        ...layout,
        weights: transformed,
        direct: at.weights,
        workspace,
        size,
        tiles,
        block: partition.block,
        together: Number(partition.together),
      });
      return { run, error: () => convolutionError(arena, at) };
    },
  };
}

function convolution(
  { inShape, macs, bytes }: Cost<Conv2d>,
  layers: string[],
): Omit<KernelCase, 'name' | 'quick' | 'needs' | 'setup'> {
  return { layers, shape: `${inShape[1]} × ${inShape[2]} × ${inShape[3]}`, input: inShape, macs, bytes };
}

/** The arguments of a direct convolution of one image. */
interface PlacedConvolution extends StructValues<typeof EPILOGUE | typeof CONVOLUTION> {
  readonly inChannels: number;
}

function placeConvolution(arena: Arena, { layer, inShape }: Cost<Conv2d>): PlacedConvolution {
  const [, , height = 0, width = 0] = inShape;
  const { inChannels, outChannels } = layer;
  const inStride = stride(inChannels);
  const [scale, shift] = ones(arena, outChannels);
  return {
    input: arena.image(height, width, inStride),
    output: arena.zeros((height + 2) * (width + 2) * outChannels),
    // Kaiming's bound, so that the results, and their errors, are of a network's size.
    weights: arena.random(outChannels * 9 * inStride, Math.sqrt(6 / (9 * inChannels))),
    scale,
    shift,
    scratch: arena.bytes(arena.constant('SCRATCH')),
    ...{ relu: 0, pool: 0, images: 1, height, width, inStride, inChannels, outChannels, outStride: outChannels },
  };
}

function convolutionError(arena: Arena, at: PlacedConvolution): number {
  const { f32 } = arena;
  const { input, output, weights, height, width, inStride, inChannels, outChannels } = at;
  const row = (width + 2) * inStride;
  return worst(spread(height * width * outChannels), (index) => {
    const [pixel, channel] = [Math.floor(index / outChannels), index % outChannels];
    const [y, x] = [Math.floor(pixel / width), pixel % width];
    let sum = 0;
    for (let tap = 0; tap < 9; tap++) {
      const from = (y + Math.floor(tap / 3)) * row + (x + (tap % 3)) * inStride;
      for (let c = 0; c < inChannels; c++) {
        const weight = value(f32, weights, packed(9 * inStride, tap * inStride + c, channel));
        sum += value(f32, input, from + c) * weight;
      }
    }
    return sum - value(f32, output, ((y + 1) * (width + 2) + x + 1) * outChannels + channel);
  });
}

function maxPool2d({ layer, inShape, bytes }: LayerCost): KernelCase {
  const [, channels = 0, height = 0, width = 0] = inShape;
  return {
    name: `maxPool2d/${layer.name}`,
    layers: [layer.name],
    shape: `${channels} × ${height} × ${width}`,
    input: inShape,
    macs: 0,
    bytes,
    quick: false,
    needs: 'MAX_POOL2D',
    setup(arena) {
      const input = arena.image(height, width, channels);
      const [down, across] = [Math.floor(height / 2), Math.floor(width / 2)];
      const output = arena.zeros((down + 2) * (across + 2) * channels);
      return {
        run: arena.operation('MAX_POOL2D', [MAX_POOL2D], { input, output, images: 1, height, width, stride: channels }),
        error() {
          const { f32 } = arena;
          return worst(spread(down * across * channels), (index) => {
            const [pixel, c] = [Math.floor(index / channels), index % channels];
            const [y, x] = [Math.floor(pixel / across), pixel % across];
            const taps = [0, 1].flatMap((i) =>
              [0, 1].map((j) => value(f32, input, ((2 * y + i + 1) * (width + 2) + 2 * x + j + 1) * channels + c)),
            );
            return Math.max(...taps) - value(f32, output, ((y + 1) * (across + 2) + x + 1) * channels + c);
          });
        },
      };
    },
  };
}

function linear({ layer, inShape, macs, bytes }: Cost<Linear>): KernelCase {
  const [batch = 1] = inShape;
  const { inFeatures, outFeatures } = layer;
  return {
    name: `linear/${layer.name}-b${batch}`,
    layers: [layer.name],
    shape: `${batch} × ${inFeatures} → ${outFeatures}`,
    input: inShape,
    macs,
    bytes,
    quick: batch === 1,
    needs: 'LINEAR',
    setup(arena) {
      const input = arena.random(batch * inFeatures);
      const output = arena.zeros(batch * outFeatures);
      const weights = arena.random(outFeatures * inFeatures, Math.sqrt(6 / inFeatures));
      const bias = arena.zeros(outFeatures);
      const scratch = arena.bytes(arena.constant('SCRATCH'));
      return {
        run: arena.operation('LINEAR', [LINEAR], {
          ...{ input, output, weights, bias, relu: 0, batch, inFeatures, outFeatures, scratch },
          ...{ kind: 0, scales: 0, digits: 0 },
        }),
        error() {
          const { f32 } = arena;
          return worst(spread(batch * outFeatures), (index) => {
            const [row, column] = [Math.floor(index / outFeatures), index % outFeatures];
            let sum = 0;
            for (let i = 0; i < inFeatures; i++) {
              sum += value(f32, input, row * inFeatures + i) * value(f32, weights, column * inFeatures + i);
            }
            return sum - value(f32, output, index);
          });
        },
      };
    },
  };
}

/** An epilogue that changes nothing: scale 1, shift 0. */
function ones(arena: Arena, count: number): [scale: number, shift: number] {
  const scale = arena.zeros(count);
  arena.f32.fill(1, scale / 4, scale / 4 + count);
  return [scale, arena.zeros(count)];
}

/** Where element (row, column) of B lies in panels (⌈N/8⌉, K, 8). */
function packed(k: number, row: number, column: number): number {
  return (Math.floor(column / 8) * k + row) * 8 + (column % 8);
}

function value(f32: Float32Array, address: number, index: number): number {
  return f32[address / 4 + index] as number;
}

function worst(indices: readonly number[], errorAt: (index: number) => number): number {
  return Math.max(...indices.map((index) => Math.abs(errorAt(index))));
}
