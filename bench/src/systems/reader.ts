import { openWeights } from '../../../src/weights/open.js';
import { type Job, Unavailable } from '../job.js';
import type { LoadedSystem, System } from './system.js';

/** The library's reader alone, with nobody to take what it reads: a sample is a file from its opening to its last value. */
export const reader: System = {
  async load({ files, format = 'safetensors' }: Job): Promise<LoadedSystem> {
    if (!files[format].startsWith('/')) throw new Unavailable('only processes read files');
    return {
      info: { version: 'this commit', build: format, threads: 1 },
      prepare: () => async () => {
        const source = await openWeights(files[format]);
        const names = new Set(source.entries.map(({ name }) => name));
        // Of each tensor, so that what was read is used.
        const last: number[] = [];
        for await (const { data } of source.chunks(names)) last.push(data.at(-1) as number);
        return Float32Array.from(last);
      },
    };
  },
};
