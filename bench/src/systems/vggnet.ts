import type { CreateOptions } from '../../../src/model/options.js';
import { type Job, type Profile, Unavailable } from '../job.js';
import { networkOf } from '../network.js';
import type { LoadedSystem, System } from './system.js';

/** The library as its users get it: the built package, by its public interface alone. */
export type Library = Pick<typeof import('../../../src/index.js'), 'VGGNet' | 'Tensor'>;

/** What newer versions of the library have, and this source must not depend on. */
interface Newer {
  profile?(input: unknown): Promise<Profile>;
}

export const PRECISIONS = { fp16: 'fp16', int8: 'int8', 'int8-int4': { default: 'int8', fc: 'int4' } } as const;

export const vggnet: System = {
  async load(job: Job): Promise<LoadedSystem> {
    const { VGGNet, Tensor } = (await import(job.files.library)) as Library;
    const options: CreateOptions = {
      weights: job.files[job.format ?? 'safetensors'],
      device: job.backend === 'native' ? 'auto' : job.backend,
      ...(job.precision && !job.stored && { precision: PRECISIONS[job.precision] }),
      ...(job.backend === 'wasm' && { deterministic: job.build === 'simd', threads: job.threads }),
      ...(job.inline && { inline: job.inline }),
      ...(job.memoryLimit !== undefined && { memoryLimit: job.memoryLimit }),
    };
    const network = networkOf(job.model);
    const model = await VGGNet.create(network.name, { ...network.options, ...options });
    const { build, threads, reason } = model.device;
    if (job.build && build !== job.build) {
      throw new Unavailable(`this runtime does not validate the ${job.build} build; the library took ${build}`);
    }
    if (job.backend === 'wasm' && threads !== job.threads) {
      throw new Unavailable(`asked for ${job.threads} threads, the library runs on ${threads} (${reason})`);
    }
    const { profile } = model as Newer;
    return {
      info: { version: 'this commit', build: build || job.backend, threads },
      prepare(input, shape) {
        const tensor = new Tensor(input, shape);
        return async () => (await model.forward(tensor)).data;
      },
      ...(profile && { profile: (input, shape) => profile.call(model, new Tensor(input, shape)) }),
    };
  },
};
