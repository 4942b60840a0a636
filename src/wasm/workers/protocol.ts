import type { ParameterChunk, RunOptions, StepTime } from '../../backend.js';
import type { VGGNetErrorCode } from '../../errors.js';
import type { TensorData } from '../../tensor.js';
import type { Team } from '../engine/engine.js';
import type { Blueprint } from '../plan/blueprint.js';
import type { Plan } from '../plan/plan.js';

/*
 * What is said between a Peer (peer.ts) and its worker (worker.ts). Every request has a number, and gets one reply of
 * that number; 'abort' takes the number of a run and gets none.
 */

export type Request =
  | { type: 'create'; module: WebAssembly.Module; blueprint: Blueprint }
  /** Makes an engine on the memory that another one left, with the weights in it; it is ready at once. */
  | { type: 'attach'; module: WebAssembly.Module; blueprint: Blueprint; team: Team }
  /** Asks a worker to be a helper of another's engine, from its answer on until the team is given up. */
  | { type: 'help'; module: WebAssembly.Module; team: Team; thread: number; threads: number }
  | { type: 'write'; chunk: ParameterChunk }
  | { type: 'finish' }
  | {
      /** 'profile' gives the steps' times instead of the outputs. */
      type: 'run' | 'profile';
      data: Float32Array;
      shape: readonly number[];
      plan: Plan;
      options: Omit<RunOptions, 'signal'>;
    }
  | { type: 'read'; name: string }
  /** Stops what it does; from its answer on it touches no memory any more. */
  | { type: 'leave' };

export type ToWorker = { id: number; request: Request } | { id: number; abort: true };

/** The team that 'create' made, outputs of a run, times of a profile, the values of a parameter, or what was written, back again; undefined for the others. */
export type Result = TensorData[] | StepTime[] | Float32Array | Team | undefined;

/** The number of an error that answers no request: a helper's kernel failed. */
export const NO_REQUEST = -1;

export type FromWorker =
  | { id: number; result: Result }
  | { id: number; error: { code: VGGNetErrorCode; message: string; stack: string | undefined } };

/** The part of a worker or of a worker's own side that both ends use, in Node and on the web. */
export interface Port {
  postMessage(message: ToWorker | FromWorker, transfer: Transferable[]): void;
}
