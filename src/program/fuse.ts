import type { BatchNorm2d, Layer } from './layers.js';
import { layerIndex } from './names.js';

/** One piece of work for a backend: a layer and what is done to its result on the way out. */
export interface Step {
  readonly layer: Layer;
  /** The layer's index in the program. */
  readonly index: number;
  /** Batch norm with the running statistics, folded into the convolution. */
  readonly batchNorm: BatchNorm2d | undefined;
  readonly relu: boolean;
  /** The layers whose output this step's result is: the last one fused, and those after it that change nothing. */
  readonly names: readonly string[];
  /** One of the names is requested. */
  readonly requested: boolean;
}

/**
 * Cuts a program into steps: convolution (+ batch norm) (+ ReLU), linear (+ ReLU), batch norm (+ ReLU) become one,
 * unless what lies between them is itself asked for. Dropout is the identity in eval mode. Layers after the last
 * output are left out.
 * @throws VGGNetError `UNKNOWN_LAYER` if an output is no layer's name
 */
export function fuse(layers: readonly Layer[], outputs: readonly string[], mode: 'eval' | 'train'): Step[] {
  const last = Math.max(...outputs.map((name) => layerIndex(layers, name)));
  const requested = new Set(outputs);
  const steps: Step[] = [];
  for (let i = 0; i <= last; i++) {
    const layer = layers[i] as Layer;
    const index = i;
    const names = [layer.name];
    /** The next layer, if it may be fused with those before it. */
    const next = (op: Layer['op']): Layer | undefined => {
      const candidate = layers[i + 1];
      const free = i < last && candidate?.op === op && !names.some((name) => requested.has(name));
      if (!free) return undefined;
      i++;
      names.splice(0, names.length, candidate.name);
      return candidate;
    };
    const fuses = layer.op === 'conv2d' || layer.op === 'linear' || layer.op === 'batchNorm2d';
    const batchNorm = layer.op === 'conv2d' && mode === 'eval' ? next('batchNorm2d') : undefined;
    const relu = fuses && next('relu') !== undefined;
    while (mode === 'eval' && i < last && layers[i + 1]?.op === 'dropout') {
      i++;
      names.push((layers[i] as Layer).name);
    }
    steps.push({
      layer,
      index,
      batchNorm: batchNorm as BatchNorm2d | undefined,
      relu,
      names,
      requested: names.some((name) => requested.has(name)),
    });
  }
  return steps;
}

/**
 * The max-pool after step `i`, if a backend may compute it together with that step: the step is a convolution, and its
 * output is not requested. A planner that fuses it skips step `i + 1`; its call then has the pool's `names`.
 */
export function fusiblePool(steps: readonly Step[], i: number): Step | undefined {
  const step = steps[i];
  const next = steps[i + 1];
  return step?.layer.op === 'conv2d' && !step.requested && next?.layer.op === 'maxPool2d' ? next : undefined;
}

/**
 * What a profile calls a step: its layer, and after a '+' each layer that was fused into it and whose output it makes
 * (`conv1_1+relu1_1`, `conv1_2+pool1`).
 * @param names of the layers whose output it makes: the step's own, or those of the pool fused into it
 */
export function stepLabel({ layer }: Pick<Step, 'layer'>, names: readonly string[]): string {
  return [layer.name, ...names.filter((name) => name !== layer.name)].join('+');
}
