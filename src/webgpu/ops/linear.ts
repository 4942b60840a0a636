import type { BufferView, Capabilities, Dispatch } from '../kernel.js';
import { flag, fold, padded, words } from './dispatch.js';
import { gemm, gemmTile } from './gemm.js';

export interface LinearShape {
  readonly n: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** The output features of one shard, from (a multiple of 4) and up to, not including. */
  readonly rows: readonly [from: number, to: number];
  /** The weights are float16. */
  readonly f16: boolean;
}

/** Batches up to this size go by the matrix–vector form, which reads the weights once for every `BATCH` rows. */
const MATRIX_VECTOR = 8;
/** Rows of the input that the matrix–vector kernel takes at once, and rows of the weights. */
const BATCH = 4;
const ROWS = 4;
/** Groups of such rows that a workgroup of the form with subgroups takes. */
const SUBGROUP_GROUPS = 2;
/** Workgroups that fill a large GPU; a product with fewer is split along K. */
const FULL = 512;

interface LinearPlan {
  readonly dispatch: 'vector' | 'matrix';
  /** Parts that K is cut into, and vectors of four of each. */
  readonly parts: number;
  readonly step: number;
}

/** Bytes of scratch that `linear` needs; 0 for none. */
export function linearScratchBytes(shape: LinearShape): number {
  const { parts } = choose(shape);
  const [from, to] = shape.rows;
  return parts > 1 ? parts * shape.n * padded(to - from) * 4 : 0;
}

/**
 * Rows (N, K) → columns `rows` of rows (N, M): y = x Wᵀ + b, then ReLU if asked. `weight` is one shard, `bias` the
 * whole vector, `output` all rows; shards of one layer each write their own columns.
 */
export function linear(
  shape: LinearShape,
  views: {
    input: BufferView;
    weight: BufferView;
    bias: BufferView;
    output: BufferView;
    scratch?: BufferView | undefined;
  },
  { relu }: { relu: boolean },
  caps: Capabilities,
): Dispatch[] {
  const { n, inFeatures, outFeatures, rows, f16 } = shape;
  const [from, to] = rows;
  const { input, weight, bias, output, scratch } = views;
  const plan = choose(shape);
  const k4 = padded(inFeatures) / 4;
  if (plan.dispatch === 'vector') {
    const groups = Math.ceil((to - from) / ROWS);
    return [
      {
        label: 'linear',
        pipeline: {
          shader: caps.subgroups ? 'linear-subgroups' : 'linear',
          entryPoint: 'linear',
          constants: { F16: flag(f16), BATCH: n === 1 ? 1 : BATCH },
        },
        bindings: [input, weight, bias, output],
        params: words([n, k4, to - from, from / 4, padded(outFeatures) / 4, groups, flag(relu)]),
        workgroups: fold(
          Math.ceil(groups / (caps.subgroups ? SUBGROUP_GROUPS : 1)),
          n === 1 ? 1 : Math.ceil(n / BATCH),
        ),
      },
    ];
  }
  const columns = padded(to - from) / 4;
  const split = plan.parts > 1;
  const product = gemm({
    label: 'linear',
    form: 'rows',
    tile: gemmTile(n, columns * 4, plan.parts),
    batch: plan.parts,
    m: n,
    n4: columns,
    k4,
    kStep: split ? plan.step : 0,
    strides: [0, 0, split ? n * columns : 0],
    rows: to - from,
    firstColumn: split ? 0 : from / 4,
    columns: split ? columns * 4 : to,
    yPitch: split ? columns : padded(outFeatures) / 4,
    f16,
    bias: !split,
    scale: false,
    relu: relu && !split,
    pool: false,
    views: { a: input, b: weight, bias, scale: bias, y: split ? (scratch as BufferView) : output },
  });
  if (!split) return [product];
  const count = n * columns;
  return [
    product,
    {
      label: 'linear sum',
      pipeline: { shader: 'linear', entryPoint: 'sum', constants: {} },
      bindings: [scratch as BufferView, bias, output],
      params: words([count, columns, plan.parts, from / 4, padded(outFeatures) / 4, to, flag(relu)]),
      workgroups: fold(Math.ceil(count / 64)),
    },
  ];
}

function choose({ n, inFeatures, rows: [from, to] }: LinearShape): LinearPlan {
  const k4 = padded(inFeatures) / 4;
  if (n <= MATRIX_VECTOR) return { dispatch: 'vector', parts: 1, step: k4 };
  const { bm, bn } = gemmTile(n, padded(to - from), 1);
  const groups = Math.ceil(n / bm) * Math.ceil((to - from) / bn);
  // A part is worth its way through memory only if it is long.
  const wanted = Math.min(Math.ceil(FULL / groups), Math.floor(k4 / 64), 16);
  const step = Math.ceil(k4 / Math.max(1, wanted) / 4) * 4;
  return { dispatch: 'matrix', parts: Math.ceil(k4 / step), step };
}
