import { CHANNEL_SUMS } from '../../plan/args-backward.js';
import { BYTES } from '../../plan/layout.js';
import type { PlacedValue } from '../../plan/plan.js';
import type { BackwardContext, Gradient } from './context.js';

/** The addresses of the vectors of a step with `stride` channels, in its workspace: `vectorBytes` in all. */
export function channelVectors(
  { workspace }: BackwardContext,
  stride: number,
): Record<'totals' | 'products' | 'mean' | 'scale' | 'slope' | 'shift', number> {
  const after = workspace + 16 * stride;
  const step = stride * BYTES;
  return {
    totals: workspace,
    products: workspace + 8 * stride,
    mean: after,
    scale: after + step,
    slope: after + 2 * step,
    shift: after + 3 * step,
  };
}

/** Σ dy of each channel, and with values Σ dy · (x − mean). */
export function channelSums(
  context: BackwardContext,
  dy: Gradient,
  values?: PlacedValue,
  mean?: Float32Array,
): { totals: Float64Array; products: Float64Array } {
  const { heap, kernels, operations } = context.parts;
  const [images = 0, , height = 0, width = 0] = dy.value.shape;
  const { stride } = dy.value;
  const vectors = channelVectors(context, stride);
  if (mean) {
    heap.f32.fill(0, vectors.mean / BYTES, vectors.mean / BYTES + stride);
    heap.f32.set(mean, vectors.mean / BYTES);
  }
  operations.parallel(kernels.CHANNEL_SUMS, [CHANNEL_SUMS], {
    gradient: context.address(dy.buffer),
    values: values ? heap.addressOf(values) : 0,
    mean: vectors.mean,
    totals: vectors.totals,
    products: vectors.products,
    images,
    height,
    width,
    stride,
  });
  const read = (address: number): Float64Array => new Float64Array(heap.memory.buffer, address, stride).slice();
  return { totals: read(vectors.totals), products: read(vectors.products) };
}
