import type { Autograd, BackwardOptions, Program, Recording, RunOptions } from '../backend.js';
import { isWeighted, type Layer } from '../program/layers.js';
import { axpy, dot } from '../reference/matrix.js';
import { Tensor, type TensorData } from '../tensor.js';
import type { WinogradOption } from './plan/algorithm.js';
import type { PlanCache } from './plan/plan-cache.js';
import { makeTapePlan } from './plan/tape.js';
import type { Result } from './workers/protocol.js';
import type { TrainingRequest } from './workers/training.js';

/**
 * A program as it is compiled with gradients: every weight in float32, rounded as it came, since the gradients of inputs are
 * those of the weights that int8 and the like stand for, and rounding of activations counts as none.
 */
export function float32Program(program: Program): Program {
  const layers = program.layers.map((layer): Layer => {
    if (!isWeighted(layer) || layer.precision === undefined) return layer;
    const { precision: _, ...plain } = layer;
    return plain as Layer;
  });
  return { ...program, layers };
}

/** Asks an engine, once what was asked of it before is done. */
export type Ask = (request: TrainingRequest, transfer: Transferable[], signal?: AbortSignal) => Promise<Result>;

/** Makes the facet of an executable. */
export type MakeAutograd = (ask: Ask) => Autograd;

/** The backward pass of an engine, in a worker or not: what it is asked is planned here. */
export class WasmAutograd implements Autograd {
  readonly #plans: PlanCache;
  readonly #winograd: WinogradOption;
  readonly #ask: Ask;
  #lastTape = 0;

  constructor(plans: PlanCache, winograd: WinogradOption, ask: Ask) {
    this.#plans = plans;
    this.#winograd = winograd;
    this.#ask = ask;
  }

  async record(input: Tensor, { signal, ...options }: RunOptions): Promise<Recording> {
    const trained = new Set(this.#plans.config.trained);
    const plan = makeTapePlan({ ...this.#plans.options, winograd: this.#winograd, trained }, input.shape, options);
    const tape = ++this.#lastTape;
    const data = input.data.slice();
    const outputs = await this.#tensors(
      { type: 'record', tape, data, shape: input.shape, plan, options },
      [data],
      signal,
    );
    let disposed = false;
    return {
      outputs,
      backward: (request) => this.#backward(disposed ? 0 : tape, request),
      dispose: () => {
        disposed = true;
      },
    };
  }

  async readGradient(name: string): Promise<Float32Array> {
    return (await this.#ask({ type: 'readGradient', name }, [])) as Float32Array;
  }

  async zeroGradients(): Promise<void> {
    await this.#ask({ type: 'zeroGradients' }, []);
  }

  async gram(x: Tensor): Promise<Tensor> {
    const [g] = await this.#tensors({ type: 'gram', x: dataOf(x) }, []);
    return g as Tensor;
  }

  async gramBackward(x: Tensor, cotangent: Tensor): Promise<Tensor> {
    const [dx] = await this.#tensors({ type: 'gram', x: dataOf(x), cotangent: dataOf(cotangent) }, []);
    return dx as Tensor;
  }

  async dot(a: Tensor, b: Tensor): Promise<number> {
    return dot(a, b);
  }

  async axpy(alpha: number, x: Tensor, y: Tensor): Promise<Tensor> {
    return axpy(alpha, x, y);
  }

  /** @param tape 0, which no tape has, for one that was disposed of */
  #backward(tape: number, { cotangents, wrt, reluRule, signal }: BackwardOptions): Promise<Tensor[]> {
    const copies = [...cotangents].map(([name, { data }]) => ({ name, data: data.slice() }));
    const request = { tape, cotangents: copies, wrt, reluRule };
    return this.#tensors(
      { type: 'backward', request },
      copies.map(({ data }) => data),
      signal,
    );
  }

  async #tensors(request: TrainingRequest, copies: readonly Float32Array[], signal?: AbortSignal): Promise<Tensor[]> {
    const transfer = copies.map(({ buffer }) => buffer as ArrayBuffer);
    const results = (await this.#ask(request, transfer, signal)) as TensorData[];
    return results.map(({ data, shape }) => new Tensor(data, shape));
  }
}

function dataOf({ data, shape }: Tensor): TensorData {
  return { data, shape };
}
