import { abortable } from '../abort.js';
import { VGGNetError } from '../errors.js';
import type { GPUTensor } from '../gpu-tensor.js';
import { type Drawable, isDrawable } from '../image/canvas.js';
import type { ImageInput } from '../image/decode.js';
import { imageToTensor } from '../image/preprocess.js';
import type { ImagePreset } from '../image/preset.js';
import { type AnyTensor, checkPlace, type Network } from './network.js';
import type { OnGPU } from './options.js';

/** An image as a network's input (1, C, H, W), by its preset. */
export async function preprocess(network: Network, image: ImageInput, options: Partial<OnGPU>): Promise<AnyTensor> {
  network.checkLive();
  const { preset, inChannels } = network.config;
  if (!preset) {
    throw new VGGNetError(
      'INVALID_ARGUMENT',
      `An image has 1 or 3 channels and this network takes ${inChannels}: make the input tensor yourself`,
    );
  }
  const decoding = { signal: options.signal, deterministic: network.deterministic };
  if (checkPlace(options.output) === 'cpu') return imageToTensor(image, preset, decoding);
  const { gpu } = network;
  // A decoded picture goes to the GPU as it is, where the shader's arithmetic gives the same bits.
  if (isDrawable(image)) return abortable(onGPU(network, image, preset), options.signal);
  return gpu.upload(await imageToTensor(image, preset, decoding));
}

async function onGPU(network: Network, picture: Drawable, preset: ImagePreset): Promise<GPUTensor> {
  const device = await network.gpu.device();
  const { pictureToTensor } = await import('../webgpu/image.js');
  try {
    return await pictureToTensor(device, picture, preset);
  } catch (error) {
    // A model that was disposed meanwhile has destroyed its device.
    network.checkLive();
    throw error;
  }
}
