import type { ParameterChunk, RunOptions, StepTime } from '../../backend.js';
import type { VGGNetErrorCode } from '../../errors.js';
import type { TensorData } from '../../tensor.js';
import type { SharedMemory } from '../engine/engine.js';
import type { Plan } from '../plan/plan.js';
import type { EngineConfig } from '../plan/plan-cache.js';
import type { TrainingRequest } from './training.js';

/*
 * What is said between a WorkerClient (client.ts) and its worker (requests.ts). Every request has a number, and gets one reply of
 * that number; 'abort' takes the number of a run and gets none.
 */

export type Request =
  | { type: 'create'; module: WebAssembly.Module; config: EngineConfig }
  /** Makes an engine on an earlier one's memory, whose weights are in it: it is ready at once. */
  | { type: 'attach'; module: WebAssembly.Module; config: EngineConfig; shared: SharedMemory }
  /** Makes the worker a helper of another one's engine, from its reply on until it is told to give up. */
  | { type: 'help'; module: WebAssembly.Module; shared: SharedMemory; thread: number; threads: number }
  | { type: 'write'; chunk: ParameterChunk }
  | { type: 'finish' }
  | {
      /** 'profile' returns the steps' times instead of the outputs. */
      type: 'run' | 'profile';
      data: Float32Array;
      shape: readonly number[];
      plan: Plan;
      options: Omit<RunOptions, 'signal'>;
    }
  | { type: 'read'; name: string }
  | TrainingRequest
  /** Stops the worker: after its reply it touches no memory. */
  | { type: 'leave' };

export type ToWorker = { id: number; request: Request } | { id: number; abort: true };

/**
 * 'create': the shared memory, if there are helpers. 'run' and 'record': the outputs. 'backward' and 'gram': the gradients or
 * matrices. 'profile': the times. 'read' and 'readGradient': the values. 'write': the chunk's buffer, for the next one.
 * Otherwise undefined.
 */
export type Result = TensorData[] | StepTime[] | Float32Array | SharedMemory | undefined;

/** The number of an error that belongs to no request: a helper's kernel failed. */
export const NO_REQUEST = -1;

export type FromWorker =
  | { id: number; result: Result }
  | { id: number; error: { code: VGGNetErrorCode; message: string; stack: string | undefined } };

/** The part of a worker, seen from outside or inside, that both ends use in Node and on the web. */
export interface Port {
  postMessage(message: ToWorker | FromWorker, transfer: Transferable[]): void;
}
