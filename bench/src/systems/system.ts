import type { Job, Profile, SystemInfo } from '../job.js';

/** A system under test: one file for each in this folder, listed in index.ts. It runs in a process or page of its own. */
export interface System {
  /**
   * Reads the job's weights and gets ready to run. This is what `loadMs` times; importing the system's code is not
   * part of it.
   * @throws Unavailable if this system can't do the job here, with the reason
   */
  load(job: Job): Promise<LoadedSystem>;
}

export interface LoadedSystem {
  readonly info: SystemInfo;
  /**
   * Takes an input (batch, 3, size, size) once, in whatever form the system's own users would have it, and gives what
   * is timed: one forward, with the logits (batch, 1000) in a Float32Array at its end.
   */
  prepare(input: Float32Array, shape: readonly number[]): () => Promise<Float32Array>;
  /** Times by layer of one forward, where the system can tell. */
  profile?(input: Float32Array, shape: readonly number[]): Promise<Profile>;
}
