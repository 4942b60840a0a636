import conv2dRepair from '../../shaders/conv2d-repair.wgsl';
import gemm from '../../shaders/gemm.wgsl';
import layout from '../../shaders/layout.wgsl';
import pack from '../../shaders/pack.wgsl';
import pool from '../../shaders/pool.wgsl';
import softmax from '../../shaders/softmax.wgsl';
import winograd from '../../shaders/winograd.wgsl';

/** What almost every network runs. */
const USUAL: Readonly<Record<string, string>> = {
  'conv2d-repair': conv2dRepair,
  gemm,
  layout,
  pack,
  pool,
  softmax,
  winograd,
};

/** What only some need: networks with batch norm, train mode, pictures, and one or the other kind of GPU. */
const OTHERS: Readonly<Record<string, () => Promise<{ readonly default: string }>>> = {
  'batch-norm': () => import('../../shaders/batch-norm.wgsl'),
  elementwise: () => import('../../shaders/elementwise.wgsl'),
  image: () => import('../../shaders/image.wgsl'),
  linear: () => import('../../shaders/linear.wgsl'),
  'linear-subgroups': () => import('../../shaders/linear-subgroups.wgsl'),
};

/** The text of a file in shaders/, by its base name; undefined if there is none. */
export async function shaderText(name: string): Promise<string | undefined> {
  return USUAL[name] ?? (await OTHERS[name]?.())?.default;
}
