import type { BufferView, Dispatch, PipelineSpec } from '../kernel.js';
import { padded, perVector, uniformWords } from './dispatch.js';
import type { Activation } from './elementwise.js';

interface Views {
  readonly input: BufferView;
  readonly output: BufferView;
}

/** `Params` of shaders/layout.wgsl. */
export const LAYOUT_PARAMS = 'count cp c hw pitch';

/** (N, C, H, W) in PyTorch's order → activation. An (N, F) tensor has h = w = 1 and c = F. */
export function toNHWC({ n, h, w, c }: Activation, { input, output }: Views): Dispatch[] {
  const count = (n * h * w * padded(c)) / 4;
  const params = uniformWords(LAYOUT_PARAMS, { count, cp: padded(c), c, hw: h * w });
  return [perVector('toNHWC', spec('toNHWC'), count, [input, output], params)];
}

/** Activation → (N, C, H, W) in PyTorch's order, without padding: n · c · h · w values. */
export function toNCHW(shape: Activation, views: Views): Dispatch[] {
  return toRows('toNCHW', shape, shape.c * shape.h * shape.w, views);
}

/** Activation → rows (N, C·H·W) in PyTorch's order, padded to a multiple of 4 values. */
export function flatten(shape: Activation, views: Views): Dispatch[] {
  return toRows('flatten', shape, padded(shape.c * shape.h * shape.w), views);
}

function toRows(label: string, { n, h, w, c }: Activation, pitch: number, { input, output }: Views): Dispatch[] {
  const count = n * pitch;
  const params = uniformWords(LAYOUT_PARAMS, { count, cp: padded(c), c, hw: h * w, pitch });
  return [perVector(label, spec('toNCHW'), count, [input, output], params)];
}

const spec = (entryPoint: string): PipelineSpec => ({ shader: 'layout', entryPoint, constants: {} });
