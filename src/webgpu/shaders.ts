import conv2dRepair from '../../shaders/conv2d-repair.wgsl';
import gemm from '../../shaders/gemm.wgsl';
import layout from '../../shaders/layout.wgsl';
import pack from '../../shaders/pack.wgsl';
import pool from '../../shaders/pool.wgsl';
import softmax from '../../shaders/softmax.wgsl';
import winograd from '../../shaders/winograd.wgsl';

/** Shaders that almost every network runs. */
const USUAL: Readonly<Record<string, string>> = {
  'conv2d-repair': conv2dRepair,
  gemm,
  layout,
  pack,
  pool,
  softmax,
  winograd,
};

/** Loaded on demand: for batch norm, train mode and pictures, and for GPUs with or without subgroups. */
const OTHERS: Readonly<Record<string, () => Promise<{ readonly default: string }>>> = {
  batchnorm2d: () => import('../../shaders/batchnorm2d.wgsl'),
  elementwise: () => import('../../shaders/elementwise.wgsl'),
  image: () => import('../../shaders/image.wgsl'),
  linear: () => import('../../shaders/linear.wgsl'),
  'linear-subgroups': () => import('../../shaders/linear-subgroups.wgsl'),
};

/** The text of a file in shaders/, by its base name; undefined if there is none. */
export async function shaderText(name: string): Promise<string | undefined> {
  return USUAL[name] ?? (await OTHERS[name]?.())?.default;
}
