import type { BufferView, Dispatch } from '../kernel.js';
import { foldWorkgroups, padded, uniformWords } from './dispatch.js';

/** `Params` of shaders/softmax.wgsl. */
export const SOFTMAX_PARAMS = 'n features pitch';

/** Rows (N, F) → rows (N, F): softmax over F. NaN or +∞ makes its whole row NaN. */
export function softmax(
  { n, features }: { n: number; features: number },
  { input, output }: { input: BufferView; output: BufferView },
): Dispatch[] {
  return [
    {
      label: 'softmax',
      pipeline: { shader: 'softmax', entryPoint: 'softmax', constants: {} },
      bindings: [input, output],
      params: uniformWords(SOFTMAX_PARAMS, { n, features, pitch: padded(features) }),
      workgroups: foldWorkgroups(n),
    },
  ];
}
