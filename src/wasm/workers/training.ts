import type { RunOptions } from '../../backend.js';
import type { TensorData } from '../../tensor.js';
import type { Engine } from '../engine/engine.js';
import type { EngineQueue } from '../engine/queue.js';
import { type BackwardData, TapeEngine } from '../engine/tape.js';
import type { EngineConfig } from '../plan/plan-cache.js';
import type { TapePlan } from '../plan/tape.js';
import type { Result } from './protocol.js';

/** The requests that only an engine with gradients answers. */
export type TrainingRequest =
  | {
      type: 'record';
      /** A number that no other tape of the model has. */
      tape: number;
      data: Float32Array;
      shape: readonly number[];
      plan: TapePlan;
      options: Omit<RunOptions, 'signal'>;
    }
  | { type: 'backward'; request: BackwardData }
  | { type: 'readGradient'; name: string }
  | { type: 'zeroGradients' }
  /** The Gram matrices of x, or with a gradient of them that of x. */
  | { type: 'gram'; x: TensorData; cotangent?: TensorData | undefined };

/**
 * The backward pass of an engine.
 * @param clear the memory is one that an earlier engine left: its gradients may be those of half a backward pass
 */
export function makeTraining(
  engine: Engine,
  config: EngineConfig,
  clear = false,
): (queue: EngineQueue, request: TrainingRequest, signal?: AbortSignal) => Promise<Result> {
  const tape = new TapeEngine(engine.parts, new Set(config.trained));
  engine.onRun = () => tape.drop();
  if (clear) tape.zeroGradients();
  return (queue, request, signal) =>
    queue.work<Result>(async (_, control) => {
      switch (request.type) {
        case 'record':
          return await tape.record(request.tape, request, request.plan, request.options, control);
        case 'backward':
          return await tape.backward(request.request, control);
        case 'readGradient':
          return tape.readGradient(request.name);
        case 'zeroGradients':
          tape.zeroGradients();
          return undefined;
        case 'gram':
          return [request.cotangent ? tape.gramBackward(request.x, request.cotangent) : tape.gram(request.x)];
      }
    }, signal);
}
