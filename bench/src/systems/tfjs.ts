import * as tf from '@tensorflow/tfjs';
import { getThreadsCount, setThreadsCount, setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import { inferShapes } from '../../../src/program/shape.js';
import { openWeights } from '../../../src/weights/open.js';
import { type Job, Unavailable } from '../job.js';
import { networkLayers } from '../network.js';
import type { LoadedSystem, System } from './system.js';

/*
 * The network in tfjs's own operations, fused as its graph optimiser fuses them, in NHWC, its native layout. Batch
 * norm is not built: the suite gives tfjs the networks without it.
 */

type Step = (x: tf.Tensor) => tf.Tensor;

export const tfjs: System = {
  async load(job: Job): Promise<LoadedSystem> {
    if (job.backend === 'webgpu') {
      try {
        await import('@tensorflow/tfjs-backend-webgpu');
      } catch (error) {
        throw new Unavailable(`@tensorflow/tfjs-backend-webgpu can't be imported: ${(error as Error).message}`);
      }
    } else {
      await allowThreads(job.threads);
    }
    if (!(await tf.setBackend(job.backend))) throw new Unavailable(`tfjs could not start its ${job.backend} backend`);
    await tf.ready();
    const failure = job.backend === 'webgpu' ? watchDevice() : () => undefined;
    const threads = job.backend === 'wasm' ? getThreadsCount() : 1;
    if (threads !== job.threads) {
      throw new Unavailable(`asked for ${job.threads} threads, tfjs's getThreadsCount() says that it uses ${threads}`);
    }
    const weights = await readWeights(job.files.safetensors);
    const network = networkLayers(job.model);
    const shapes = inferShapes(network, [job.batch, 3, job.size, job.size]);
    const steps = network.flatMap((layer, i, all): Step[] => {
      const parameter = (key: string): tf.Tensor => weights.get(`${layer.path}.${key}`) as tf.Tensor;
      const activation = all[i + 1]?.op === 'relu' ? 'relu' : 'linear';
      switch (layer.op) {
        case 'conv2d': {
          const [filter, bias] = [parameter('weight') as tf.Tensor4D, parameter('bias')];
          return [(x) => tf.fused.conv2d({ x: x as tf.Tensor4D, filter, strides: 1, pad: 'same', bias, activation })];
        }
        case 'linear': {
          const [b, bias] = [parameter('weight') as tf.Tensor2D, parameter('bias')];
          return [(x) => tf.fused.matMul({ a: x as tf.Tensor2D, b, bias, activation })];
        }
        case 'maxPool2d':
          return [(x) => tf.maxPool(x as tf.Tensor4D, 2, 2, 'valid')];
        case 'flatten':
          return [(x) => tf.transpose(x, [0, 3, 1, 2]).reshape([x.shape[0] as number, -1])];
        case 'batchNorm2d':
          throw new Unavailable(`the suite does not build batch norm for tfjs (${job.model})`);
        case 'adaptiveAvgPool2d': {
          const [side, grid] = [shapes[i - 1]?.[2], layer.outputSize];
          if (side === grid) return [];
          if (side !== 1) throw new Unavailable(`the suite's tfjs network needs a last map of ${grid}×${grid} or 1×1`);
          return [(x) => tf.tile(x, [1, grid, grid, 1])];
        }
        default:
          // ReLU is fused; dropout is the identity.
          return [];
      }
    });
    return {
      info: {
        version: tf.version.tfjs,
        build: job.backend === 'wasm' ? 'wasm simd' : job.backend,
        threads,
      },
      prepare(input, shape) {
        const [n = 0, c = 0, h = 0, w = 0] = shape;
        const nhwc = toNhwc(input, n, c, h * w);
        return async () => {
          const logits = tf.tidy(() => steps.reduce<tf.Tensor>((x, step) => step(x), tf.tensor4d(nhwc, [n, h, w, c])));
          const data = (await logits.data()) as Float32Array;
          logits.dispose();
          const reason = failure();
          if (reason) throw new Error(reason);
          return data;
        };
      },
    };
  },
};

/** tfjs goes on after an error of WebGPU, and gives zeros: what a device said first is what the row says. */
function watchDevice(): () => string | undefined {
  let reason: string | undefined;
  const { device } = tf.backend() as unknown as { device: GPUDevice };
  device.addEventListener('uncapturederror', ({ error }) => {
    reason ??= `WebGPU: ${error.message.split('\n')[0]}`;
  });
  return () => reason;
}

/** In plain JavaScript: the WebGPU backend reads synchronously through a canvas, which loses the device or digits. */
function toNhwc(input: Float32Array, images: number, channels: number, pixels: number): Float32Array {
  const output = new Float32Array(input.length);
  for (let n = 0; n < images; n++) {
    for (let c = 0; c < channels; c++) {
      const [from, to] = [(n * channels + c) * pixels, n * channels * pixels + c];
      for (let i = 0; i < pixels; i++) output[to + i * channels] = input[from + i] as number;
    }
  }
  return output;
}

/** tfjs decides for itself if it can use threads; what it decides is asked, and anything else is no row. */
async function allowThreads(threads: number): Promise<void> {
  setWasmPaths(await wasmFolder());
  setThreadsCount(threads);
  const supported = await tf.env().getAsync('WASM_HAS_MULTITHREAD_SUPPORT');
  if (threads > 1 && !supported) {
    throw new Unavailable('tfjs says WASM_HAS_MULTITHREAD_SUPPORT = false here: it has threads in browsers alone');
  }
  if (threads === 1) tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false);
}

/** Where the package keeps its .wasm files: a path, or for pages the URL that serve.ts has them at. */
async function wasmFolder(): Promise<string> {
  if (globalThis.document)
    return new URL('/bench/node_modules/@tensorflow/tfjs-backend-wasm/dist/', document.baseURI).href;
  const { createRequire } = await import('node:module');
  const entry = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm');
  return entry.slice(0, Math.max(entry.lastIndexOf('/'), entry.lastIndexOf('\\')) + 1);
}

/**
 * How weights of a rank are transposed: (OUT, IN) → (IN, OUT), (OC, IC, 3, 3) → (3, 3, IC, OC). fused.matMul could
 * take a linear layer's as they are by `transposeB`, but gives a wrong product then in tfjs-backend-wasm 4.22.
 */
const LAYOUT: Readonly<Record<number, number[]>> = { 2: [1, 0], 4: [2, 3, 1, 0] };

/** On the CPU, so that a GPU has the weights once, and tfjs's slow kernel for it is not in the load. */
function transposed(values: Float32Array, shape: readonly number[], order: readonly number[]): tf.Tensor {
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, size) => product * size, 1));
  const sizes = order.map((axis) => shape[axis] as number);
  const steps = order.map((axis) => strides[axis] as number);
  const output = new Float32Array(values.length);
  const [last, step] = [sizes.at(-1) as number, steps.at(-1) as number];
  const index = sizes.slice(0, -1).fill(0);
  let from = 0;
  for (let to = 0; to < output.length; to += last) {
    for (let i = 0; i < last; i++) output[to + i] = values[from + i * step] as number;
    for (let axis = index.length - 1; axis >= 0; axis--) {
      index[axis] = (index[axis] as number) + 1;
      from += steps[axis] as number;
      if ((index[axis] as number) < (sizes[axis] as number)) break;
      from -= (steps[axis] as number) * (sizes[axis] as number);
      index[axis] = 0;
    }
  }
  return tf.tensor(output, sizes);
}

async function readWeights(path: string): Promise<Map<string, tf.Tensor>> {
  const source = await openWeights(path);
  const weights = new Map<string, tf.Tensor>();
  const entries = new Map(source.entries.map((entry) => [entry.name, entry.shape]));
  let values = new Float32Array();
  for await (const { name, offset, data } of source.chunks(new Set(entries.keys()))) {
    const shape = entries.get(name) as number[];
    if (offset === 0) values = new Float32Array(shape.reduce((product, size) => product * size, 1));
    values.set(data, offset);
    if (offset + data.length < values.length) continue;
    const order = LAYOUT[shape.length];
    weights.set(name, order ? transposed(values, shape, order) : tf.tensor(values, shape));
  }
  await source.close();
  return weights;
}
