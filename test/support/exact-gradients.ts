import type { Executable, RunOptions } from '../../src/backend.js';
import { backwardSteps, INPUT, type ReluRule } from '../../src/program/gradient.js';
import { type Layer, parametersOf } from '../../src/program/layers.js';
import { forward, inputGradient, type Kept, parameterGradients } from '../../src/reference/layer.js';
import type { Floats, Parameters, Value } from '../../src/reference/value.js';
import type { Tensor } from '../../src/tensor.js';
import { autogradOf } from './gradients.js';

/*
 * Gradients in float64 on the masks and maxima of a backend's own forward: its outputs, read from it, are what the
 * reference's backward saves. Against a forward of its own a backward can't be held to any digits, since an error of 1e-6
 * turns a ReLU on or off.
 */

export interface ExactRequest {
  readonly cotangents: ReadonlyMap<string, Tensor>;
  readonly wrt: readonly string[];
  readonly reluRule?: ReluRule;
}

const wide = ({ data, shape }: Value): Value => ({ data: Float64Array.from(data), shape });

/** The gradients of `wrt`, and of the parameters in `trained`, by name. */
export async function exactGradients(
  executable: Executable,
  layers: readonly Layer[],
  input: Tensor,
  run: RunOptions,
  { cotangents, wrt, reluRule = 'standard' }: ExactRequest,
  trained: ReadonlySet<string>,
): Promise<Map<string, Floats>> {
  const last = Math.max(...run.outputs.map((name) => layers.findIndex((layer) => layer.name === name)));
  const until = layers.slice(0, last + 1);
  // A batch norm that is folded into its convolution has no input to be read, and needs none.
  const read = until.filter(({ op }) => run.mode === 'train' || (op !== 'conv2d' && op !== 'batchNorm2d'));
  const names = [...new Set([...read.map(({ name }) => name), ...run.outputs])];
  const parameters = new Map<Layer, Parameters>();
  for (const layer of until) {
    const values: Record<string, Floats> = {};
    for (const { name } of parametersOf(layer)) {
      values[name.slice(layer.path.length + 1)] = Float64Array.from(await executable.readParameter(name));
    }
    parameters.set(layer, values);
  }
  const { outputs } = await autogradOf(executable).record(input, { ...run, outputs: names });
  const kept: Kept[] = [];
  let x = wide(input);
  for (const [index, layer] of until.entries()) {
    const own = outputs[names.indexOf(layer.name)];
    const copy = { ...parameters.get(layer) } as Record<string, Floats>;
    for (const key of Object.keys(copy)) copy[key] = (copy[key] as Floats).slice();
    const y = own ? wide(own) : forward(layer, index, x, copy, run);
    kept.push({ x, y });
    x = y;
  }

  const results = new Map<string, Floats>();
  let dy: Value | undefined;
  for (const { layer, index, ...step } of backwardSteps(layers, { cotangents: [...cotangents.keys()], wrt }, trained)) {
    const own = parameters.get(layer) as Parameters;
    if (step.cotangent) {
      const given = wide(cotangents.get(layer.name) as Tensor);
      const before = dy?.data;
      dy = { ...given, data: given.data.map((value, i) => value + (before?.[i] ?? 0)) } as Value;
    }
    const gradient = dy as Value;
    if (step.requested) results.set(layer.name, gradient.data);
    const found = parameterGradients(layer, gradient, kept[index] as Kept, own, run);
    for (const name of step.parameters) results.set(name, found[name.slice(layer.path.length + 1)] as Floats);
    if (step.inputGradient) {
      dy = inputGradient(layer, index, gradient, kept[index] as Kept, own, { ...run, reluRule });
    }
  }
  if (wrt.includes(INPUT)) results.set(INPUT, (dy as Value).data);
  return results;
}
