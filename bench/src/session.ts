import type { Job, Profile, SystemInfo } from './job.js';
import type { KernelSamples } from './kernels/cases.js';

/*
 * The interface between the suite and a runtime. To add one (a browser, say), write a Runtime and list it in
 * runtimes/index.ts; host.ts does the work on the other side, and needs nothing of Node.
 */

/** Name and version of a runtime that is here. */
export interface RuntimeInfo {
  readonly name: string;
  readonly version: string;
}

export interface OpenOptions {
  /** Command-line flags for the runtime. */
  readonly flags: readonly string[];
  /** For every single request, in milliseconds; a session that takes longer is killed. */
  readonly timeoutMs: number;
  /** Fires on an interrupt: everything under way must reject soon. */
  readonly signal: AbortSignal;
}

export interface Runtime {
  readonly name: string;
  /** @throws Unavailable with the reason if it is not here */
  find(): Promise<RuntimeInfo>;
  /** Starts a process or page of its own, and loads the job's system there up to its first logits. */
  open(job: Job, options: OpenOptions): Promise<Session>;
}

export interface Opened {
  readonly system: SystemInfo;
  /** From having a file's path to being ready to run: JavaScript and WebAssembly compiled or not, weights read. */
  readonly loadMs: number;
  /** From having a file's path to the first logits. */
  readonly firstMs: number;
  /** The most memory that the process had before that, in bytes; undefined if the runtime does not tell. */
  readonly baseMemory?: number | undefined;
}

/** A loaded system with one batch, waiting for requests. One request at a time. */
export interface Session {
  readonly opened: Opened;
  /** The same process with another batch, which is run once: its `firstMs` is the load and that run. */
  withBatch(batch: number): Promise<Session>;
  /** One forward, input to logits in JavaScript's hands, in milliseconds by the runtime's own clock. */
  sample(): Promise<number>;
  /** The logits of the last forward, (batch, 1000). */
  logits(): Promise<Float32Array>;
  /** @throws Unavailable if the system can't tell */
  profile(): Promise<Profile>;
  /** One case of the kernels' level, by its name, with at least so many samples. */
  kernel(name: string, samples: number): Promise<KernelSamples>;
  /** The most memory that the process has had, in bytes; undefined if the runtime does not tell. */
  peakMemory(): Promise<number | undefined>;
  /** Ends the process, for all batches. Never rejects. */
  close(): Promise<void>;
}
