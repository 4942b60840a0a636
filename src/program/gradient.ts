import { VGGNetError } from '../errors.js';
import { formatShape } from '../tensor.js';
import { type Layer, parametersOf, usesBatchStatistics } from './layers.js';
import { layerNamed } from './names.js';

/*
 * The backward pass. A tape keeps what the forward computed; a cotangent is the gradient of a loss with respect to a
 * layer's output. Walking from the last layer to the first, each layer turns the gradient dy of its output into the
 * gradient dx of its input (the chain rule), and adds to the gradients of its parameters:
 *
 *   operation          dx                                        parameters                        saved for dx; parameters
 *   conv2d             conv2d(dy), weights flipped, in↔out       dW = Σ x shifted · dy, db = Σ dy  –; x
 *   linear             dy W                                      dW = dyᵀ x, db = Σ dy             –; x
 *   batchNorm2d, eval  dy · γ / σ                                dγ = Σ dy (x − μ) / σ, dβ = Σ dy  –; x
 *   batchNorm2d, train (dy − x̂ · mean(dy x̂) − mean(dy)) · γ / σ  the same, x̂ = (x − μ) / σ         x; x
 *   relu               dy where not y ≤ 0, else 0                                                  y
 *   maxPool2d          dy at the maximum, else 0                                                   argmax
 *   adaptiveAvgPool2d  Σ dy / size over the cells around                                           –
 *   flatten            dy in x's shape                                                             –
 *   dropout            dy · mask                                                                   – (the mask is a function
 *                                                                                                  of seed, layer and index)
 *   softmax            y · (dy − Σ dy y)                                                           y
 *
 * What is here is data: which layers a backward pass visits, and what a tape has to keep for it.
 */

/** How a ReLU passes a gradient on: as it is, or only where it is positive, which is guided backpropagation. */
export type ReluRule = 'standard' | 'guided';

export const RELU_RULES: readonly ReluRule[] = ['standard', 'guided'];

/** The name of the network's input, which is no layer's. */
export const INPUT = 'input';

/** What a layer keeps of a forward. */
export type Saved = 'input' | 'output' | 'argmax';

interface Saves {
  /** For the gradient of its input. */
  readonly input: readonly Saved[];
  /** In addition, for the gradients of its parameters. */
  readonly parameters: readonly Saved[];
}

const SAVES: Record<Layer['op'], Saves> = {
  conv2d: { input: [], parameters: ['input'] },
  linear: { input: [], parameters: ['input'] },
  batchNorm2d: { input: [], parameters: ['input'] },
  relu: { input: ['output'], parameters: [] },
  maxPool2d: { input: ['argmax'], parameters: [] },
  adaptiveAvgPool2d: { input: [], parameters: [] },
  flatten: { input: [], parameters: [] },
  dropout: { input: [], parameters: [] },
  softmax: { input: ['output'], parameters: [] },
};

/** What a layer has to save for any backward pass; `trained` are the names of the parameters that get gradients. */
export function savedBy(layer: Layer, mode: 'eval' | 'train', trained: ReadonlySet<string>): ReadonlySet<Saved> {
  const { input, parameters } = SAVES[layer.op];
  const saved = new Set(input);
  if (usesBatchStatistics(layer, mode)) saved.add('input');
  if (trainedOf(layer, trained).length > 0) for (const one of parameters) saved.add(one);
  return saved;
}

/** The parameters of a layer that get gradients. */
export function trainedOf(layer: Layer, trained: ReadonlySet<string>): string[] {
  return parametersOf(layer).flatMap(({ name, learned }) => (learned && trained.has(name) ? [name] : []));
}

/** A layer's part in a backward pass. */
export interface BackwardStep {
  readonly layer: Layer;
  /** The layer's index in the program. */
  readonly index: number;
  /** A cotangent for its output came: it is added to what the later layers gave. */
  readonly cotangent: boolean;
  /** The gradient of its output was asked for. */
  readonly requested: boolean;
  /** The parameters whose gradients it adds to. */
  readonly parameters: readonly string[];
  /** It computes the gradient of its input, which earlier layers or the caller need. */
  readonly inputGradient: boolean;
}

/** What is asked of a backward pass, by the names of layers. */
export interface BackwardRequest {
  readonly cotangents: readonly string[];
  /** Layers, or `INPUT`, whose gradients come back. */
  readonly wrt: readonly string[];
}

/**
 * The layers that a backward pass visits, from the last one with a cotangent to the first one that anything needs.
 * @param trained names of the parameters that get gradients
 */
export function backwardSteps(
  layers: readonly Layer[],
  { cotangents, wrt }: BackwardRequest,
  trained: ReadonlySet<string>,
): BackwardStep[] {
  const index = (name: string): number => layers.findIndex((layer) => layer.name === name);
  const last = Math.max(...cotangents.map(index));
  /** Layers from here on compute the gradient of their input; the one before is where it is read, or used. */
  const needed = [
    ...wrt.map((name) => (name === INPUT ? 0 : index(name) + 1)),
    ...layers.flatMap((layer, i) => (trainedOf(layer, trained).length > 0 ? [i + 1] : [])),
  ];
  const first = Math.min(...needed);
  const steps: BackwardStep[] = [];
  for (let i = last; i >= Math.max(0, first - 1); i--) {
    const layer = layers[i] as Layer;
    steps.push({
      layer,
      index: i,
      cotangent: cotangents.includes(layer.name),
      requested: wrt.includes(layer.name),
      parameters: trainedOf(layer, trained),
      inputGradient: i >= first,
    });
  }
  return steps;
}

/** The names of a request as the layers have them, in its order. */
export interface ResolvedRequest {
  /** By layer, the caller's name for it. */
  readonly cotangents: ReadonlyMap<string, string>;
  readonly wrt: readonly string[];
}

/**
 * Finds the layers that a caller names.
 * @param recorded names of the layers that the tape recorded
 * @throws VGGNetError `UNKNOWN_LAYER`; `INVALID_ARGUMENT` for a cotangent of a layer that was not recorded or two of one,
 * for a gradient of a layer after the last cotangent, and if nothing is asked for
 */
export function resolveRequest(
  layers: readonly Layer[],
  recorded: readonly string[],
  { cotangents, wrt }: BackwardRequest,
  trained: ReadonlySet<string>,
): ResolvedRequest {
  const found = new Map<string, string>();
  for (const given of cotangents) {
    const { name } = layerNamed(layers, given);
    if (!recorded.includes(name)) {
      throw new VGGNetError(
        'INVALID_ARGUMENT',
        `A cotangent for '${given}' came, and the tape recorded ${recorded.join(', ')}: name it in record()`,
      );
    }
    const twice = found.get(name);
    if (twice !== undefined) {
      throw new VGGNetError('INVALID_ARGUMENT', `'${twice}' and '${given}' are one layer: add their cotangents up`);
    }
    found.set(name, given);
  }
  if (found.size === 0) {
    throw new VGGNetError('INVALID_ARGUMENT', `backward needs a cotangent for one of ${recorded.join(', ')}, got none`);
  }
  if (wrt.length === 0 && trained.size === 0) {
    throw new VGGNetError(
      'INVALID_ARGUMENT',
      "No parameter of this model gets a gradient: name the gradients to return in wrt, such as ['input']",
    );
  }
  const last = Math.max(...[...found.keys()].map((name) => layers.findIndex((layer) => layer.name === name)));
  const names = wrt.map((given) => {
    if (given === INPUT) return INPUT;
    const layer = layerNamed(layers, given);
    if (layers.indexOf(layer) > last) {
      throw new VGGNetError(
        'INVALID_ARGUMENT',
        `wrt: '${given}' comes after ${layers[last]?.name}, the last layer with a cotangent, and has no gradient`,
      );
    }
    return layer.name;
  });
  return { cotangents: found, wrt: names };
}

/** @throws VGGNetError `INVALID_SHAPE` if a cotangent is not shaped as the output that it is for */
export function checkCotangent(name: string, shape: readonly number[], output: readonly number[]): void {
  if (shape.length === output.length && shape.every((size, i) => size === output[i])) return;
  throw new VGGNetError(
    'INVALID_SHAPE',
    `The cotangent for '${name}' must have the shape of its output, ${formatShape(output)}, got ${formatShape(shape)}`,
  );
}

export function tapeDropped(): VGGNetError {
  return new VGGNetError(
    'TAPE_DROPPED',
    'This tape is gone: it was disposed of, or the model ran again since. Record the input once more',
  );
}
