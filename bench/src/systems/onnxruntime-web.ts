import * as wasm from 'onnxruntime-web';
import type { Job } from '../job.js';
import { type OnnxRuntime, prepareOnnx } from './onnx.js';
import type { LoadedSystem, System } from './system.js';

export const onnxruntimeWeb: System = {
  async load(job: Job): Promise<LoadedSystem> {
    const webgpu = job.backend === 'webgpu';
    // Only this build has the WebGPU provider. Its interface is the same.
    const ort = (webgpu ? await import('onnxruntime-web/webgpu') : wasm) as OnnxRuntime;
    ort.env.wasm.numThreads = job.threads;
    const session = await ort.InferenceSession.create(job.files.onnx, {
      executionProviders: [webgpu ? 'webgpu' : 'wasm'],
      graphOptimizationLevel: 'all',
    });
    const info = {
      version: ort.env.versions.web ?? ort.env.versions.common,
      build: webgpu ? 'webgpu' : 'wasm simd',
      threads: ort.env.wasm.numThreads ?? job.threads,
    };
    return prepareOnnx(ort, session, info);
  },
};
