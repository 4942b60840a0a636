import type { Context } from './context.js';
import * as USAGE from './usage.js';

/** Steps to time, and the commands before the first and after the last. */
export interface Timed {
  readonly before: (encoder: GPUCommandEncoder) => void;
  readonly steps: readonly { readonly label: string; readonly encode: (pass: GPUComputePassEncoder) => void }[];
  readonly after: (encoder: GPUCommandEncoder) => void;
}

/** Milliseconds of each step: by the GPU's timestamps if it has them, else by a submit for each step. */
export function timeSteps(context: Context, timed: Timed): Promise<number[]> {
  // A query set has at most 4096 queries.
  return context.timestamps && timed.steps.length <= 2048 ? byTimestamps(context, timed) : bySubmits(context, timed);
}

async function byTimestamps(context: Context, { before, steps, after }: Timed): Promise<number[]> {
  const { device } = context;
  const count = Math.max(1, steps.length) * 2;
  const label = 'timestamps';
  const set = device.createQuerySet({ label, type: 'timestamp', count });
  const resolved = context.createBuffer(label, count * 8, USAGE.queryResolve | USAGE.copySource);
  const read = context.createBuffer(`${label}, read`, count * 8, USAGE.copyTarget | USAGE.mapRead);
  try {
    const record = (encoder: GPUCommandEncoder): void => {
      before(encoder);
      for (const [i, step] of steps.entries()) {
        const timestampWrites = { querySet: set, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 };
        const pass = encoder.beginComputePass({ label: step.label, timestampWrites });
        step.encode(pass);
        pass.end();
      }
      after(encoder);
      encoder.resolveQuerySet(set, 0, count, resolved, 0);
      encoder.copyBufferToBuffer(resolved, 0, read, 0, count * 8);
    };
    await context.submit('profile', record, 'the profile');
    await context.wait(read.mapAsync(USAGE.mapModeRead), 'the profile');
    const times = new BigUint64Array(read.getMappedRange());
    // The clock may be set back between two passes.
    return steps.map((_, i) => Math.max(0, Number((times[2 * i + 1] as bigint) - (times[2 * i] as bigint)) / 1e6));
  } finally {
    set.destroy();
    context.destroyBuffer(resolved);
    context.destroyBuffer(read);
  }
}

async function bySubmits(context: Context, { before, steps, after }: Timed): Promise<number[]> {
  const submit = async (label: string, encode: (encoder: GPUCommandEncoder) => void): Promise<void> => {
    await context.submit(label, encode);
    await context.flush();
  };
  await submit('profile', before);
  const times: number[] = [];
  for (const step of steps) {
    const start = performance.now();
    await submit(step.label, (encoder) => {
      const pass = encoder.beginComputePass({ label: step.label });
      step.encode(pass);
      pass.end();
    });
    times.push(performance.now() - start);
  }
  await submit('profile', after);
  return times;
}
