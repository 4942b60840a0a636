import { VGGNetError } from '../errors.js';
import { GPUTensor } from '../gpu-tensor.js';
import { type Drawable, loaded, sizeOf } from '../image/canvas.js';
import { checkImageSize } from '../image/limits.js';
import { type CropAxis, channelTable, cropAxis } from '../image/preprocess.js';
import { type ImagePreset, presetChannels } from '../image/preset.js';
import { createFilter, type Filter, shorterSideSize } from '../image/resize.js';
import { contextOf } from './backend.js';
import type { Context } from './context.js';
import { uniformWords } from './ops/dispatch.js';
import * as USAGE from './usage.js';

/*
 * Turns pictures that the platform has decoded into a network's input without leaving the GPU; see shaders/image.wgsl.
 */

/** Of a picture's texture: COPY_SRC, COPY_DST, TEXTURE_BINDING and RENDER_ATTACHMENT. */
const TEXTURE_USAGE = 0x1 | 0x2 | 0x4 | 0x10;

/** `Params` of shaders/image.wgsl. */
export const IMAGE_PARAMS = 'width height left top outWidth outHeight rows firstRow stride channels bgr';

/**
 * Turns a picture into a tensor (1, C, H, W) by the preset, with the same bits as `preprocess`. The caller owns the
 * buffer.
 * @throws VGGNetError `INVALID_IMAGE` if it has no pixels; `IMAGE_TOO_LARGE`; `IO` if it is from another origin and was
 * loaded without CORS; `OUT_OF_MEMORY`, `GPU_ERROR`, `DEVICE_LOST`
 */
export async function pictureToTensor(device: GPUDevice, source: Drawable, preset: ImagePreset): Promise<GPUTensor> {
  if ('decode' in source) await loaded(source);
  const { width, height } = sizeOf(source);
  const context = contextOf(device);
  checkSize(context, width, height);
  const made = context.attempt('a picture', () => createTexture(device, width, height));
  const texture = made.result;
  try {
    await made.checked;
    await copyPicture(context, source, texture);
    return await textureToTensor(context, texture, preset);
  } finally {
    texture.destroy();
  }
}

/** Copies a picture to a texture. Sources that the platform does not copy, such as video frames, go through a bitmap. */
async function copyPicture(context: Context, source: Drawable, texture: GPUTexture): Promise<void> {
  const copy = async (one: Drawable): Promise<void> => {
    const { checked } = context.attempt('a picture', () => {
      const target = { texture, colorSpace: 'srgb', premultipliedAlpha: false } as const;
      context.device.queue.copyExternalImageToTexture({ source: one }, target, [texture.width, texture.height]);
    });
    await checked;
  };
  try {
    await copy(source);
  } catch (error) {
    if (error instanceof VGGNetError) throw error;
    if (error instanceof Error && error.name === 'SecurityError') throw unreadable(error);
    let bitmap: ImageBitmap | undefined;
    try {
      bitmap = await createImageBitmap(source, { premultiplyAlpha: 'none', colorSpaceConversion: 'none' });
      await copy(bitmap);
    } catch (second) {
      throw second instanceof VGGNetError ? second : unreadable(second);
    } finally {
      bitmap?.close();
    }
  }
}

function unreadable(error: unknown): VGGNetError {
  const isForeign = error instanceof Error && error.name === 'SecurityError';
  const why = isForeign ? 'it is from another origin, loaded without CORS' : String(error);
  return new VGGNetError(isForeign ? 'IO' : 'INVALID_IMAGE', `Could not read the pixels of a picture: ${why}`, {
    cause: error,
  });
}

function checkSize({ capabilities }: Context, width: number, height: number): void {
  if (!(width > 0 && height > 0))
    throw new VGGNetError('INVALID_IMAGE', 'The picture has no pixels: it is closed or empty');
  checkImageSize('A picture', width, height);
  const max = capabilities.limits.maxTextureDimension2D;
  if (width <= max && height <= max) return;
  throw new VGGNetError(
    'IMAGE_TOO_LARGE',
    `This GPU takes pictures of at most ${max} pixels along a side, got ${width}×${height}. Leave out output: 'gpu'`,
  );
}

function createTexture(device: GPUDevice, width: number, height: number): GPUTexture {
  return device.createTexture({ label: 'picture', size: [width, height], format: 'rgba8unorm', usage: TEXTURE_USAGE });
}

/** Turns a texture of 8-bit colors into a tensor (1, C, H, W) by the preset. */
export async function textureToTensor(context: Context, texture: GPUTexture, preset: ImagePreset): Promise<GPUTensor> {
  const { resize, crop } = preset;
  const resized = resize === null ? texture : shorterSideSize(texture.width, texture.height, resize);
  const x = cropAxis(resized.width, crop);
  const y = cropAxis(resized.height, crop);
  checkImageSize('A preprocessed image', x.size, y.size);
  const columns = createFilter(texture.width, resized.width, x.start, x.length);
  const rows = createFilter(texture.height, resized.height, y.start, y.length);
  const firstRow = rows.starts[0] as number;
  const end = rows.starts.length - 1;
  const lines = (rows.starts[end] as number) + (rows.counts[end] as number) - firstRow;
  const channels = presetChannels(preset);

  const params = (stride: number): Uint32Array =>
    uniformWords(IMAGE_PARAMS, {
      width: x.length,
      height: y.length,
      left: x.before,
      top: y.before,
      outWidth: x.size,
      outHeight: y.size,
      rows: lines,
      firstRow,
      stride,
      channels,
      bgr: preset.mode === 'BGR',
    });
  const tables = new Float32Array(256 * channels);
  for (let c = 0; c < channels; c++) tables.set(channelTable(preset, c), 256 * c);
  return run(context, texture, {
    tables,
    passes: [
      { entryPoint: 'across', weights: pack(columns), params: params(columns.stride), size: [x.length, lines] },
      { entryPoint: 'normalize', weights: pack(rows), params: params(rows.stride), size: [x.size, y.size] },
    ],
    bytes: x.length * lines * 4,
    shape: [1, channels, y.size, x.size],
  });
}

/** A filter in the shader's layout. */
function pack({ starts, counts, stride, weights }: Filter): Int32Array {
  const packed = new Int32Array(starts.length * (stride + 2));
  for (let i = 0; i < starts.length; i++) {
    packed[i * (stride + 2)] = starts[i] as number;
    packed[i * (stride + 2) + 1] = counts[i] as number;
    packed.set(weights.subarray(i * stride, (i + 1) * stride), i * (stride + 2) + 2);
  }
  return packed;
}

interface Passes {
  readonly tables: Float32Array;
  readonly passes: readonly {
    readonly entryPoint: string;
    readonly weights: Int32Array;
    readonly params: Uint32Array;
    readonly size: readonly [x: number, y: number];
  }[];
  /** Bytes between the two passes. */
  readonly bytes: number;
  readonly shape: readonly [1, number, CropAxis['size'], CropAxis['size']];
}

async function run(
  context: Context,
  texture: GPUTexture,
  { tables, passes, bytes, shape }: Passes,
): Promise<GPUTensor> {
  const { device } = context;
  const label = 'picture';
  const pipelines = await Promise.all(
    passes.map(({ entryPoint }) =>
      context.pipelines.get(context, { shader: 'image', entryPoint, constants: {} }, label),
    ),
  );
  const temporary: GPUBuffer[] = [];
  const buffer = (name: string, size: number, usage: number): GPUBuffer => {
    const made = context.createBuffer(`${label}: ${name}`, size, usage);
    temporary.push(made);
    return made;
  };
  const upload = (name: string, data: Float32Array | Int32Array | Uint32Array, usage: number): GPUBuffer => {
    const made = buffer(name, data.byteLength, usage | USAGE.copyTarget);
    device.queue.writeBuffer(made, 0, data as Uint32Array<ArrayBuffer>);
    return made;
  };
  try {
    const { result, checked } = context.attempt(label, () => {
      const size = shape.reduce((product, side) => product * side, 4);
      const between = buffer('resized along the rows', bytes, USAGE.storage);
      const values = buffer('input', size, USAGE.storage | USAGE.copySource | USAGE.copyTarget);
      const table = upload('table', tables, USAGE.storage);
      const encoder = device.createCommandEncoder({ label });
      for (const [i, { entryPoint, weights, params, size }] of passes.entries()) {
        const pipeline = pipelines[i] as GPUComputePipeline;
        const first = i === 0;
        const resources: [number, GPUBindingResource][] = [
          [0, first ? texture.createView() : { buffer: between }],
          [1, { buffer: upload(`filter ${entryPoint}`, weights, USAGE.storage) }],
          [2, { buffer: first ? between : values }],
          ...(first ? [] : [[3, { buffer: table }] satisfies [number, GPUBindingResource]]),
          [4, { buffer: upload(`size ${entryPoint}`, params, USAGE.uniform) }],
        ];
        const pass = encoder.beginComputePass({ label: `${label}: ${entryPoint}` });
        pass.setPipeline(pipeline);
        pass.setBindGroup(
          0,
          device.createBindGroup({
            label: `${label}: ${entryPoint}`,
            layout: pipeline.getBindGroupLayout(0),
            entries: resources.map(([binding, resource]) => ({ binding, resource })),
          }),
        );
        pass.dispatchWorkgroups(Math.ceil(size[0] / 8), Math.ceil(size[1] / 8));
        pass.end();
      }
      device.queue.submit([encoder.finish({ label })]);
      return values;
    });
    await checked;
    context.handOver(result);
    temporary.splice(temporary.indexOf(result), 1);
    return new GPUTensor(result, shape);
  } finally {
    for (const one of temporary) context.destroyBuffer(one);
  }
}
