import type { Program } from '../../backend.js';
import { VGGNetError } from '../../errors.js';
import type { Layer } from '../../program/layers.js';
import { leastSide } from '../../program/shape.js';
import {
  canRunInInt8,
  canTransform,
  convolutionCost,
  type Form,
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
 * What a program keeps in memory, decided before any of it is taken: in which form each convolution's weights are
 * there, by the cost model and a limit.
 */

export interface MemoryOptions {
  readonly winograd: WinogradOption;
  readonly threads: number;
  /** Bytes that the engine's memory must not pass. */
  readonly memoryLimit?: number | undefined;
  /** Default 'none'. */
  readonly int8?: Int8Speed | undefined;
}

/** Bytes of an operation's arguments. */
export const ARGUMENT_BYTES = 128;
/**
 * SCRATCH of assembly/gemm.ts, bytes for each thread, EXPANDED of assembly/linear.ts, bytes of it, and CONTROL of
 * assembly/team.ts; a test compares them.
 */
export const SCRATCH = 246_720;
export const EXPANDED = 33_024;
export const CONTROL = 384;

/** Bytes that are kept below the arena of activations. */
export function keptBytes(layers: readonly Layer[], forms: readonly Form[], threads: number): number {
  const own = align(CONTROL) + align(ARGUMENT_BYTES) + align(SCRATCH * threads);
  return FIRST_ADDRESS + own + align(parameterBytes(layers, forms));
}

/**
 * The form of each layer's weights, 'direct' for what has no other: the cheapest for inputs of the program's usual
 * shape. Where a limit does not allow all of that, those are transformed that save the most time for their bytes.
 * @throws VGGNetError `OUT_OF_MEMORY` if the weights do not fit; with a `memoryLimit`, if one input of the usual shape
 * does not fit beside them either
 */
export function chooseForms(
  program: Program,
  { winograd, threads, memoryLimit, int8 = 'none' }: MemoryOptions,
): Form[] {
  const { layers } = program;
  const shape = usualShape(program);
  const limit = Math.min(memoryLimit ?? MAX_BYTES, MAX_BYTES);
  const outputs = [(layers.at(-1) as Layer).name];
  const needs = (forms: readonly Form[]): number => {
    const kept = keptBytes(layers, forms, threads);
    const planner = { layers, forms, int8, threads, forced: typeof winograd === 'number', arenaLimit: limit - kept };
    return wholePages(kept + makePlan(planner, shape, { outputs, mode: 'eval', seed: 0 }).arenaBytes);
  };

  const candidates = findCandidates(layers, shape, winograd, int8);
  const plain = (): Form[] => layers.map((_, index) => plainForm(layers, index, int8));
  const best = plain();
  for (const { index, form } of [...candidates].sort((a, b) => a.cost - b.cost)) {
    if (!isTransformed(best[index])) best[index] = form;
  }
  if (needs(best) <= limit) return best;

  const forms = plain();
  const costs = new Map<number, number>();
  let least = needs(forms);
  for (const { index, form, cost } of [...candidates].sort((a, b) => b.worth - a.worth)) {
    if (cost >= (costs.get(index) ?? Infinity)) continue;
    const before = forms[index] as Form;
    forms[index] = form;
    const now = needs(forms);
    // A form may save more in the arena than its weights take, by pooling on the way out.
    if (now <= Math.max(limit, least)) {
      costs.set(index, cost);
      least = Math.min(least, now);
    } else {
      forms[index] = before;
    }
  }
  const kept = keptBytes(layers, forms, threads);
  if (kept > limit || (memoryLimit !== undefined && least > limit)) {
    const what = memoryLimit === undefined ? 'the weights' : `the weights and one input of ${shape.slice(1).join('×')}`;
    throw new VGGNetError(
      'OUT_OF_MEMORY',
      `This network needs a WebAssembly memory of ${mib(memoryLimit === undefined ? kept : least)} for ${what}; ${
        limit < MAX_BYTES ? 'memoryLimit is' : 'the most is'
      } ${mib(limit)}`,
    );
  }
  return forms;
}

/** The form that takes the least memory. */
function plainForm(layers: readonly Layer[], index: number, int8: Int8Speed): 'direct' | 'int8' {
  return layers[index]?.op === 'conv2d' && canRunInInt8(layers, index, int8) ? 'int8' : 'direct';
}

interface Candidate {
  readonly index: number;
  readonly form: TileSize;
  readonly cost: number;
  /** What it saves for each of its bytes. */
  readonly worth: number;
}

/** The transformed forms that are cheaper than the direct one, or all of the size that was asked for. */
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
    const plain = plainForm(layers, index, int8);
    // With the relaxed dot product nothing is faster.
    if (plain === 'int8' && int8 === 'fast') continue;
    const direct = convolutionCost(layer, plain, h, w);
    for (const form of winograd === true ? TILE_SIZES : [winograd]) {
      const cost = convolutionCost(layer, form, h, w);
      const worth = (direct - cost) / transformedBytes(layer, form);
      if (worth > 0 || winograd !== true) found.push({ index, form, cost, worth });
    }
  }
  return found;
}

/** The side of inputs that VGG networks are made for. */
const USUAL_SIDE = 224;

function usualShape({ layers, inputShape }: Program): readonly number[] {
  if (inputShape) return inputShape;
  const first = layers[0] as Layer;
  if (first.op === 'linear') return [1, first.inFeatures];
  const side = Math.max(USUAL_SIDE, leastSide(layers));
  const conv = layers.find((layer) => layer.op === 'conv2d');
  return [1, conv?.inChannels ?? 1, side, side];
}
