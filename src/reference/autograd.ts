import type { Autograd, BackwardOptions, Recording, RunOptions } from '../backend.js';
import { backwardSteps, INPUT, tapeDropped } from '../program/gradient.js';
import { type Layer, parametersOf } from '../program/layers.js';
import { numel, Tensor } from '../tensor.js';
import type { ReferenceExecutable, Run } from './backend.js';
import { inputGradient, type Kept, parameterGradients } from './layer.js';
import { axpy, dot, gram, gramInputGradient } from './matrix.js';
import { type Floats, tensorOf, type Value } from './value.js';

/** The backward pass: layer by layer, from what a run of them kept. */
export class ReferenceAutograd implements Autograd {
  readonly #executable: ReferenceExecutable;
  readonly #gradients = new Map<string, Float32Array>();

  constructor(executable: ReferenceExecutable, gradients: ReadonlySet<string>) {
    this.#executable = executable;
    for (const { name, shape } of executable.layers.flatMap(parametersOf)) {
      if (gradients.has(name)) this.#gradients.set(name, new Float32Array(numel(shape)));
    }
  }

  async record(input: Tensor, options: RunOptions): Promise<Recording> {
    const run = await this.#executable.runLayers(input, options);
    let disposed = false;
    return {
      outputs: run.outputs,
      backward: (request) => {
        const copies = [...request.cotangents].map(([name, { data, shape }]) => [
          name,
          new Tensor(data.slice(), shape),
        ]);
        const cotangents = new Map(copies as [string, Tensor][]);
        return this.#executable.enqueue(() => {
          this.#executable.check(request.signal);
          if (disposed || this.#executable.lastRun !== run.id) throw tapeDropped();
          return this.#backward(run, options, { ...request, cotangents });
        });
      },
      dispose: () => {
        disposed = true;
      },
    };
  }

  readGradient(name: string): Promise<Float32Array> {
    return this.#executable.enqueue(async () => {
      this.#executable.check();
      return (this.#gradients.get(name) as Float32Array).slice();
    });
  }

  zeroGradients(): Promise<void> {
    return this.#executable.enqueue(async () => {
      this.#executable.check();
      this.#clear();
    });
  }

  async gram(x: Tensor): Promise<Tensor> {
    return gram(x);
  }

  async gramBackward(x: Tensor, cotangent: Tensor): Promise<Tensor> {
    return gramInputGradient(cotangent, x);
  }

  async dot(a: Tensor, b: Tensor): Promise<number> {
    return dot(a, b);
  }

  async axpy(alpha: number, x: Tensor, y: Tensor): Promise<Tensor> {
    return axpy(alpha, x, y);
  }

  async #backward(run: Run, mode: RunOptions, options: BackwardOptions): Promise<Tensor[]> {
    try {
      const results = await this.#walk(run, mode, options);
      return options.wrt.map((name) => tensorOf(results.get(name) as Value));
    } catch (error) {
      this.#clear();
      throw error;
    }
  }

  async #walk(run: Run, mode: RunOptions, options: BackwardOptions): Promise<Map<string, Value>> {
    const { layers } = this.#executable;
    const trained = new Set(this.#gradients.keys());
    const request = { cotangents: [...options.cotangents.keys()], wrt: options.wrt };
    const results = new Map<string, Value>();
    let dy: Value | undefined;
    for (const { layer, index, ...step } of backwardSteps(layers, request, trained)) {
      await this.#executable.turn(options.signal);
      const kept = run.kept[index] as Kept;
      const parameters = this.#executable.parametersOf(layer);
      if (step.cotangent) {
        const cotangent = options.cotangents.get(layer.name) as Tensor;
        dy = dy ? axpy(1, cotangent, tensorOf(dy)) : cotangent;
      }
      const gradient = dy as Value;
      if (step.requested) results.set(layer.name, gradient);
      if (step.parameters.length > 0) {
        this.#add(layer, step.parameters, parameterGradients(layer, gradient, kept, parameters, mode));
      }
      if (!step.inputGradient) continue;
      dy = inputGradient(layer, index, gradient, kept, parameters, { ...mode, reluRule: options.reluRule });
    }
    if (options.wrt.includes(INPUT)) results.set(INPUT, dy as Value);
    return results;
  }

  #add(layer: Layer, names: readonly string[], gradients: Readonly<Record<string, Floats>>): void {
    for (const name of names) {
      const sum = this.#gradients.get(name) as Float32Array;
      const more = gradients[name.slice(layer.path.length + 1)] as Floats;
      for (let i = 0; i < sum.length; i++) sum[i] = (sum[i] as number) + (more[i] as number);
    }
  }

  #clear(): void {
    for (const gradient of this.#gradients.values()) gradient.fill(0);
  }
}
