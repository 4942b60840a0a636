import * as ort from 'onnxruntime-node';
import type { Job } from '../job.js';
import { type OnnxRuntime, prepareOnnx } from './onnx.js';
import type { LoadedSystem, System } from './system.js';

export const onnxruntimeNode: System = {
  async load(job: Job): Promise<LoadedSystem> {
    const session = await ort.InferenceSession.create(job.files.onnx, {
      executionProviders: ['cpu'],
      graphOptimizationLevel: 'all',
      intraOpNumThreads: job.threads,
      interOpNumThreads: 1,
    });
    const version = ort.env.versions.node ?? ort.env.versions.common;
    return prepareOnnx(ort as OnnxRuntime, session, { version, build: 'native cpu', threads: job.threads });
  },
};
