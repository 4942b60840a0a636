import { VGGNetError } from '../../errors.js';

/** 'auto', or how many threads compute: an integer from 1 to 256. */
export type Threads = 'auto' | number;

const MAX_THREADS = 256;
/** Most threads of 'auto': more do not pay for one image. */
const MAX_AUTO = 16;

/**
 * How many threads a model gets, and a note for `DeviceInfo` where it gets fewer than requested.
 * @throws VGGNetError `INVALID_ARGUMENT`
 */
export function resolveThreads(asked: Threads, inline: boolean): { threads: number; note: string } {
  if (asked !== 'auto' && !(Number.isInteger(asked) && asked >= 1 && asked <= MAX_THREADS)) {
    throw new VGGNetError(
      'INVALID_ARGUMENT',
      `threads must be 'auto' or an integer from 1 to ${MAX_THREADS}, got ${JSON.stringify(asked) ?? String(asked)}`,
    );
  }
  const threads = asked === 'auto' ? Math.min(MAX_AUTO, cores()) : asked;
  if (threads === 1) return { threads, note: '' };
  if (inline) return { threads: 1, note: ', on one thread, since it runs inline' };
  if (!hasSharedMemory()) {
    return {
      threads: 1,
      note: ', on one thread, since there is no shared memory (a page must be cross-origin isolated)',
    };
  }
  return { threads, note: '' };
}

function cores(): number {
  const os = globalThis.process?.getBuiltinModule?.('node:os');
  return os?.availableParallelism?.() ?? globalThis.navigator?.hardwareConcurrency ?? 1;
}

function hasSharedMemory(): boolean {
  // Only browsers have the flag; where it is false a shared buffer can't be sent to a worker.
  if (typeof SharedArrayBuffer !== 'function' || globalThis.crossOriginIsolated === false) return false;
  try {
    return new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true }).buffer instanceof SharedArrayBuffer;
  } catch {
    return false;
  }
}
