import type { BufferView, Dispatch, PipelineSpec } from '../kernel.js';
import { each, padded } from './dispatch.js';
import type { Activation } from './elementwise.js';

interface Views {
  readonly input: BufferView;
  readonly output: BufferView;
}

/** (N, C, H, W) as PyTorch has it → activation. An (N, F) tensor is the same with h = w = 1 and c = F. */
export function toNHWC({ n, h, w, c }: Activation, { input, output }: Views): Dispatch[] {
  const count = (n * h * w * padded(c)) / 4;
  return [each('toNHWC', spec('toNHWC'), count, [input, output], [count, padded(c) / 4, c, h * w])];
}

/** Activation → (N, C, H, W) as PyTorch has it, without padding: n · c · h · w values. */
export function toNCHW(shape: Activation, views: Views): Dispatch[] {
  return rows('toNCHW', shape, shape.c * shape.h * shape.w, views);
}

/** Activation → rows (N, C·H·W) in PyTorch's order, padded to a multiple of 4 values. */
export function flatten(shape: Activation, views: Views): Dispatch[] {
  return rows('flatten', shape, padded(shape.c * shape.h * shape.w), views);
}

function rows(label: string, { n, h, w, c }: Activation, pitch: number, { input, output }: Views): Dispatch[] {
  const count = n * pitch;
  return [each(label, spec('toNCHW'), count, [input, output], [count, padded(c), c, h * w, pitch])];
}

const spec = (entryPoint: string): PipelineSpec => ({ shader: 'layout', entryPoint, constants: {} });
