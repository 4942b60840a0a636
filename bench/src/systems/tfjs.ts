import * as tf from '@tensorflow/tfjs';
import { setThreadsCount, setWasmPaths } from '@tensorflow/tfjs-backend-wasm';
import { openWeights } from '../../../src/weights/safetensors.js';
import { findAdapter } from '../gpu.js';
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
      await findAdapter();
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
    const weights = await readWeights(job.files.safetensors);
    const steps = networkLayers(job.model).flatMap((layer, i, all): Step[] => {
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
        default:
          // ReLU is fused; dropout, and the average pool of a 7×7 map, are the identity.
          return [];
      }
    });
    return {
      info: {
        version: tf.version.tfjs,
        build: job.backend === 'wasm' ? 'wasm simd' : job.backend,
        threads: job.threads,
      },
      prepare(input, shape) {
        const [n = 0, c = 0, h = 0, w = 0] = shape;
        const nhwc = tf.tidy(() => tf.transpose(tf.tensor4d(input, [n, c, h, w]), [0, 2, 3, 1]).dataSync());
        return async () => {
          const logits = tf.tidy(() => steps.reduce<tf.Tensor>((x, step) => step(x), tf.tensor4d(nhwc, [n, h, w, c])));
          const data = (await logits.data()) as Float32Array;
          logits.dispose();
          return data;
        };
      },
    };
  },
};

/** tfjs decides for itself if it can use threads; what it decides is asked, and anything else is no row. */
async function allowThreads(threads: number): Promise<void> {
  const folder = globalThis.process?.versions?.node ? await wasmFolder() : undefined;
  if (folder) setWasmPaths(folder);
  setThreadsCount(threads);
  const supported = await tf.env().getAsync('WASM_HAS_MULTITHREAD_SUPPORT');
  if (threads > 1 && !supported) {
    throw new Unavailable('tfjs says WASM_HAS_MULTITHREAD_SUPPORT = false here: it uses one thread outside browsers');
  }
  if (threads === 1) tf.env().set('WASM_HAS_MULTITHREAD_SUPPORT', false);
}

/** Where the package keeps its .wasm files. */
async function wasmFolder(): Promise<string> {
  const { createRequire } = await import('node:module');
  const entry = createRequire(import.meta.url).resolve('@tensorflow/tfjs-backend-wasm');
  return entry.slice(0, Math.max(entry.lastIndexOf('/'), entry.lastIndexOf('\\')) + 1);
}

/**
 * How weights of a rank are transposed: (OUT, IN) → (IN, OUT), (OC, IC, 3, 3) → (3, 3, IC, OC). fused.matMul could
 * take a linear layer's as they are by `transposeB`, but gives a wrong product then in tfjs-backend-wasm 4.22.
 */
const LAYOUT: Readonly<Record<number, number[]>> = { 2: [1, 0], 4: [2, 3, 1, 0] };

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
    const tensor = tf.tensor(values, shape);
    const order = LAYOUT[shape.length];
    weights.set(name, order ? tf.transpose(tensor, order) : tensor);
    if (order) tensor.dispose();
  }
  await source.close();
  return weights;
}
