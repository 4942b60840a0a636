import { GPUTensor } from '../gpu-tensor.js';
import type { Tensor } from '../tensor.js';
import type { Context } from './context.js';
import * as USAGE from './usage.js';

/**
 * Copies a tensor to the GPU, into a buffer that the caller owns.
 * @throws VGGNetError `OUT_OF_MEMORY`, `DEVICE_LOST`
 */
export async function upload(context: Context, { data, shape }: Tensor): Promise<GPUTensor> {
  const usage = USAGE.storage | USAGE.copySource | USAGE.copyTarget;
  const { result, checked } = context.attempt('an input', () => {
    const buffer = context.createBuffer('input', data.byteLength, usage);
    context.device.queue.writeBuffer(buffer, 0, data as Float32Array<ArrayBuffer>);
    return buffer;
  });
  try {
    await checked;
  } catch (error) {
    context.destroyBuffer(result);
    throw error;
  }
  context.handOver(result);
  return new GPUTensor(result, shape);
}
