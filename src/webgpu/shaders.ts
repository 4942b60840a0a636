import batchNorm from '../../shaders/batch-norm.wgsl';
import conv2dRepair from '../../shaders/conv2d-repair.wgsl';
import elementwise from '../../shaders/elementwise.wgsl';
import gemm from '../../shaders/gemm.wgsl';
import image from '../../shaders/image.wgsl';
import layout from '../../shaders/layout.wgsl';
import linear from '../../shaders/linear.wgsl';
import linearSubgroups from '../../shaders/linear-subgroups.wgsl';
import pack from '../../shaders/pack.wgsl';
import pool from '../../shaders/pool.wgsl';
import softmax from '../../shaders/softmax.wgsl';
import winograd from '../../shaders/winograd.wgsl';

/** The text of each file in shaders/, by its base name. */
export const SHADERS: Readonly<Record<string, string>> = {
  'batch-norm': batchNorm,
  'conv2d-repair': conv2dRepair,
  elementwise,
  gemm,
  image,
  layout,
  linear,
  'linear-subgroups': linearSubgroups,
  pack,
  pool,
  softmax,
  winograd,
};
