import type { BufferView, Capabilities, Dispatch } from '../kernel.js';
import { flag, foldWorkgroups, padded, perVector, uniformWords } from './dispatch.js';
import { type Gemm, gemm, gemmTile } from './gemm.js';

export interface LinearShape {
  readonly n: number;
  readonly inFeatures: number;
  readonly outFeatures: number;
  /** The output features of one shard: from a multiple of 4, up to but not including `to`. */
  readonly rows: readonly [from: number, to: number];
  /** The weights are float16. */
  readonly f16: boolean;
}

/** Larger batches are a matrix product; up to this size the weights are read once for every `BATCH` rows. */
const MAX_VECTOR_BATCH = 8;
/** Rows of the input, and rows of the weights, that the matrix–vector kernel takes at once. */
const BATCH = 4;
const ROWS = 4;
/** Groups of `ROWS` that a workgroup takes where there are subgroups. */
const SUBGROUP_GROUPS = 2;
/** Workgroups that fill a large GPU; a product with fewer is split along K. */
const FULL_GPU = 512;

/** `Params` of shaders/linear.wgsl and linear-subgroups.wgsl. */
export const LINEAR_PARAMS = 'n k4 rows firstColumn yPitch groups relu';
/** `Sum` of shaders/linear.wgsl. */
export const LINEAR_SUM_PARAMS = 'count columns parts firstColumn yPitch end relu';

interface LinearPlan {
  readonly kernel: 'vector' | 'matrix';
  /** K is partitioned into `parts` of `step` vectors of four. */
  readonly parts: number;
  readonly step: number;
}

/** Bytes of scratch that `linear` needs; may be 0. */
export function linearScratchBytes(shape: LinearShape): number {
  const { parts } = planLinear(shape);
  const [from, to] = shape.rows;
  return parts > 1 ? parts * shape.n * padded(to - from) * 4 : 0;
}

/**
 * Rows (N, K) → columns `rows` of rows (N, M): y = x Wᵀ + b, then an optional ReLU. `weight` is one shard, `bias` the
 * whole vector, `output` all rows; each shard of a layer writes its own columns.
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
  const plan = planLinear(shape);
  const k4 = padded(inFeatures) / 4;
  const yPitch = padded(outFeatures) / 4;
  const firstColumn = from / 4;
  if (plan.kernel === 'vector') {
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
        params: uniformWords(LINEAR_PARAMS, { n, k4, rows: to - from, firstColumn, yPitch, groups, relu }),
        workgroups: foldWorkgroups(
          Math.ceil(groups / (caps.subgroups ? SUBGROUP_GROUPS : 1)),
          n === 1 ? 1 : Math.ceil(n / BATCH),
        ),
      },
    ];
  }
  const columns = padded(to - from) / 4;
  const tile = gemmTile(n, columns * 4, plan.parts);
  const factors = { label: 'linear', kind: 'linear', tile, batch: plan.parts, f16, m: n, n4: columns, k4 } as const;
  const all = { ...factors, rows: to - from };
  const bind = (y: BufferView): Gemm['views'] => ({ a: input, b: weight, bias, scale: bias, y });
  if (plan.parts === 1)
    return [gemm({ ...all, firstColumn, columns: to, yPitch, bias: true, relu, views: bind(output) })];
  const parts = scratch as BufferView;
  const count = n * columns;
  const part = { kStep: plan.step, yStride: count, columns: columns * 4, yPitch: columns };
  const pipeline = { shader: 'linear', entryPoint: 'sum', constants: {} };
  const params = uniformWords(LINEAR_SUM_PARAMS, {
    count,
    columns,
    parts: plan.parts,
    firstColumn,
    yPitch,
    end: to,
    relu,
  });
  return [
    gemm({ ...all, ...part, views: bind(parts) }),
    perVector('linear sum', pipeline, count, [parts, bias, output], params),
  ];
}

function planLinear({ n, inFeatures, rows: [from, to] }: LinearShape): LinearPlan {
  const k4 = padded(inFeatures) / 4;
  if (n <= MAX_VECTOR_BATCH) return { kernel: 'vector', parts: 1, step: k4 };
  const { bm, bn } = gemmTile(n, padded(to - from), 1);
  const groups = Math.ceil(n / bm) * Math.ceil((to - from) / bn);
  // Only a long part is worth its way through memory.
  const requested = Math.min(Math.ceil(FULL_GPU / groups), Math.floor(k4 / 64), 16);
  const step = Math.ceil(k4 / Math.max(1, requested) / 4) * 4;
  return { kernel: 'matrix', parts: Math.ceil(k4 / step), step };
}
