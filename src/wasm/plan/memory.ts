import type { Program } from '../../backend.js';
import { VGGNetError } from '../../errors.js';
import type { Layer } from '../../program/layers.js';
import { usualShape } from '../../program/shape.js';
import {
  type Algorithm,
  canRunInInt8,
  canTransform,
  convolutionCost,
  type Int8Speed,
  isTransformed,
  TILE_SIZES,
  type TileSize,
  transformedBytes,
  type WinogradOption,
} from './algorithm.js';
import { align } from './layout.js';
import { FIRST_ADDRESS, MAX_BYTES, mib, wholePages } from './pages.js';
import { parameterBytes } from './parameter-bytes.js';
import { makePlan } from './plan.js';

/*
 * What a program keeps in memory, planned before any memory is allocated: the algorithm that each convolution's weights
 * are stored for, chosen by the cost model within a limit.
 */

export interface MemoryOptions {
  readonly winograd: WinogradOption;
  readonly threads: number;
  /** Most bytes of the engine's memory. */
  readonly memoryLimit?: number | undefined;
  /** Default 'none'. */
  readonly int8?: Int8Speed | undefined;
  /** Bytes of the gradients of parameters. Default 0. */
  readonly gradientBytes?: number | undefined;
}

/** Bytes reserved for an operation's argument struct. */
export const ARGUMENT_BYTES = 128;
/**
 * SCRATCH of assembly/gemm.ts, in bytes for each thread, EXPANDED of assembly/linear.ts, a part of it, and CONTROL of
 * assembly/threads.ts; a test compares them.
 */
export const SCRATCH = 246_784;
export const EXPANDED = 33_024;
export const CONTROL = 384;

/** Bytes below the arena of activations. */
export function keptBytes(
  layers: readonly Layer[],
  algorithms: readonly Algorithm[],
  threads: number,
  gradientBytes = 0,
): number {
  const own = align(CONTROL) + align(ARGUMENT_BYTES) + align(SCRATCH * threads);
  return FIRST_ADDRESS + own + align(parameterBytes(layers, algorithms)) + gradientBytes;
}

/**
 * The algorithm of each layer ('direct' where there is no choice): the cheapest for inputs of the program's usual shape.
 * Where a limit does not allow all transformed weights, it keeps those that save the most time per byte.
 * @throws VGGNetError `OUT_OF_MEMORY` if the weights do not fit or, with a `memoryLimit`, if one input of the usual shape
 * does not fit in addition
 */
export function chooseAlgorithms(
  program: Program,
  { winograd, threads, memoryLimit, int8 = 'none', gradientBytes }: MemoryOptions,
): Algorithm[] {
  const { layers } = program;
  const shape = program.inputShape ?? usualShape(layers);
  const limit = Math.min(memoryLimit ?? MAX_BYTES, MAX_BYTES);
  const outputs = [(layers.at(-1) as Layer).name];
  const bytesFor = (algorithms: readonly Algorithm[]): number => {
    const kept = keptBytes(layers, algorithms, threads, gradientBytes);
    const options = {
      layers,
      algorithms,
      int8,
      threads,
      forced: typeof winograd === 'number',
      arenaLimit: limit - kept,
    };
    return wholePages(kept + makePlan(options, shape, { outputs, mode: 'eval', seed: 0 }).arenaBytes);
  };

  const candidates = findCandidates(layers, shape, winograd, int8);
  const smallest = (): Algorithm[] => layers.map((_, index) => smallestAlgorithm(layers, index, int8));
  const best = smallest();
  for (const { index, algorithm } of [...candidates].sort((a, b) => a.cost - b.cost)) {
    if (!isTransformed(best[index])) best[index] = algorithm;
  }
  if (bytesFor(best) <= limit) return best;

  const algorithms = smallest();
  const costs = new Map<number, number>();
  let least = bytesFor(algorithms);
  for (const { index, algorithm, cost } of [...candidates].sort((a, b) => b.worth - a.worth)) {
    if (cost >= (costs.get(index) ?? Infinity)) continue;
    const before = algorithms[index] as Algorithm;
    algorithms[index] = algorithm;
    const now = bytesFor(algorithms);
    // Fusing the pool may save more of the arena than the transformed weights take.
    if (now <= Math.max(limit, least)) {
      costs.set(index, cost);
      least = Math.min(least, now);
    } else {
      algorithms[index] = before;
    }
  }
  const kept = keptBytes(layers, algorithms, threads, gradientBytes);
  if (kept > limit || (memoryLimit !== undefined && least > limit)) {
    const weights = gradientBytes ? 'the weights, their gradients' : 'the weights';
    const what = memoryLimit === undefined ? weights : `${weights} and one input of ${shape.slice(1).join('×')}`;
    throw new VGGNetError(
      'OUT_OF_MEMORY',
      `This network needs a WebAssembly memory of ${mib(memoryLimit === undefined ? kept : least)} for ${what}; ${
        limit < MAX_BYTES ? 'memoryLimit is' : 'the most is'
      } ${mib(limit)}`,
    );
  }
  return algorithms;
}

/** The algorithm that takes the least memory. */
function smallestAlgorithm(layers: readonly Layer[], index: number, int8: Int8Speed): 'direct' | 'int8' {
  return layers[index]?.op === 'conv2d' && canRunInInt8(layers, index, int8) ? 'int8' : 'direct';
}

interface Candidate {
  readonly index: number;
  readonly algorithm: TileSize;
  readonly cost: number;
  /** Cost saved per byte. */
  readonly worth: number;
}

/** The transformed algorithms that are cheaper than the direct one, or all of the requested tile size. */
function findCandidates(
  layers: readonly Layer[],
  [, , height = 1, width = 1]: readonly number[],
  winograd: WinogradOption,
  int8: Int8Speed,
): Candidate[] {
  if (winograd === false) return [];
  const found: Candidate[] = [];
  let [h, w] = [height, width];
  for (const [index, layer] of layers.entries()) {
    if (layer.op === 'maxPool2d') [h, w] = [Math.floor(h / 2), Math.floor(w / 2)];
    if (layer.op !== 'conv2d' || !canTransform(index)) continue;
    const plain = smallestAlgorithm(layers, index, int8);
    // Nothing is faster than the relaxed dot product.
    if (plain === 'int8' && int8 === 'fast') continue;
    const direct = convolutionCost(layer, plain, h, w);
    for (const algorithm of winograd === true ? TILE_SIZES : [winograd]) {
      const cost = convolutionCost(layer, algorithm, h, w);
      const worth = (direct - cost) / transformedBytes(layer, algorithm);
      if (worth > 0 || winograd !== true) found.push({ index, algorithm, cost, worth });
    }
  }
  return found;
}
