import type { InferenceSession, Tensor } from 'onnxruntime-common';
import type { SystemInfo } from '../job.js';
import type { LoadedSystem } from './system.js';

/** What the packages of ONNX Runtime have in common. */
export type OnnxRuntime = typeof import('onnxruntime-common');

export function prepareOnnx(ort: OnnxRuntime, session: InferenceSession, info: SystemInfo): LoadedSystem {
  return {
    info,
    prepare(input, shape) {
      const feeds = { input: new ort.Tensor('float32', input, shape) };
      return async () => {
        const results = await session.run(feeds);
        const logits = results[session.outputNames[0] as string] as Tensor;
        const data = (await logits.getData()) as Float32Array;
        logits.dispose();
        return data;
      };
    },
  };
}
