import type { BufferView, Dispatch } from '../kernel.js';
import { fold, padded, words } from './dispatch.js';

/** Rows (N, F) → rows (N, F): softmax over F; a NaN or +∞ makes its whole row NaN. */
export function softmax(
  { n, features }: { n: number; features: number },
  { input, output }: { input: BufferView; output: BufferView },
): Dispatch[] {
  return [
    {
      label: 'softmax',
      pipeline: { shader: 'softmax', entryPoint: 'softmax', constants: {} },
      bindings: [input, output],
      params: words([n, features, padded(features)]),
      workgroups: fold(n),
    },
  ];
}
