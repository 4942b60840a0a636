import { abortable } from '../abort.js';
import type { Autograd, Recording, RunOptions } from '../backend.js';
import { VGGNetError } from '../errors.js';
import { checkCotangent, RELU_RULES, resolveRequest, tapeDropped } from '../program/gradient.js';
import { isWeighted, type Layer, parametersOf } from '../program/layers.js';
import { assertAttached, Tensor } from '../tensor.js';
import { checkScheme, rename, renamedShape } from '../weights/naming.js';
import type { BackwardOptions, GradientOptions, StateOptions } from './options.js';

/* Gradients, as `VGGNet` offers them: which parameters have any, tapes, and the sums that backward passes add to. */

/**
 * The layers with batch norms frozen.
 * @throws VGGNetError `INVALID_ARGUMENT`
 */
export function withFrozen(layers: readonly Layer[], { frozenBatchNorm = false }: GradientOptions): readonly Layer[] {
  const isFrozen = predicate('frozenBatchNorm', frozenBatchNorm);
  return layers.map((layer) =>
    layer.op === 'batchNorm2d' && isFrozen(layer.path) ? { ...layer, frozen: true } : layer,
  );
}

/**
 * The names of the parameters that get gradients; undefined for a model that runs forward only.
 * @throws VGGNetError `INVALID_ARGUMENT`; `NOT_TRAINABLE` for one that is stored in fewer than 32 bits
 */
export function trainedParameters(
  layers: readonly Layer[],
  { gradients = false }: GradientOptions,
): ReadonlySet<string> | undefined {
  const isTrained = predicate('gradients', gradients);
  if (gradients === false) return undefined;
  const names = layers.flatMap((layer) => {
    const trained = parametersOf(layer).flatMap(({ name, learned }) => (learned && isTrained(name) ? [name] : []));
    if (trained.includes(`${layer.path}.weight`) && isWeighted(layer) && (layer.precision ?? 'fp32') !== 'fp32') {
      throw new VGGNetError(
        'NOT_TRAINABLE',
        `${layer.path}.weight is stored in ${layer.precision} and can't get a gradient: load it with ` +
          "precision: 'fp32', or leave it out by gradients: (name) => …",
      );
    }
    return trained;
  });
  return new Set(names);
}

function predicate(option: string, value: boolean | ((name: string) => boolean)): (name: string) => boolean {
  if (typeof value === 'function') return (name) => Boolean(value(name));
  if (typeof value === 'boolean') return () => value;
  throw new VGGNetError(
    'INVALID_ARGUMENT',
    `${option} must be true, false or a function of a name, got ${typeof value}`,
  );
}

/** What a tape is made from. */
export interface TapeParts {
  readonly layers: readonly Layer[];
  readonly trained: ReadonlySet<string>;
  readonly recording: Recording;
  readonly autograd: Autograd;
  /** The model's now; it has another one after `loadWeights`. */
  readonly current: () => Autograd;
}

/**
 * A forward that was recorded for a backward pass. A model has one tape at a time: any other run of the model drops it,
 * and `backward` then throws `TAPE_DROPPED`.
 */
export class Tape<Name extends string = string> {
  /** The outputs of the layers that were recorded, by the names asked for. */
  readonly outputs: Readonly<Record<Name, Tensor>>;
  readonly #parts: TapeParts;
  /** The layers that were recorded, and the shapes of their outputs. */
  readonly #recorded = new Map<string, readonly number[]>();

  /** @param recorded the layer of each name */
  constructor(names: readonly Name[], recorded: readonly string[], parts: TapeParts) {
    this.#parts = parts;
    const outputs = names.map((name, i) => {
      const output = parts.recording.outputs[i] as Tensor;
      this.#recorded.set(recorded[i] as string, output.shape);
      return [name, output];
    });
    this.outputs = Object.fromEntries(outputs) as Record<Name, Tensor>;
  }

  /**
   * The gradients of Σ cotangent · output: those of the parameters are added to `model.gradients()`, those of `wrt` are
   * returned. A cotangent is shaped as the output that it is for, and is copied before the call returns. May be called
   * again until the tape is disposed of. A call that fails for any reason but its arguments clears the gradients of the
   * parameters.
   * @param cotangents by names of layers that were recorded
   * @throws VGGNetError `INVALID_ARGUMENT`, `UNKNOWN_LAYER`, `INVALID_SHAPE`, `TAPE_DROPPED`, `DISPOSED`, `ABORTED`,
   * `OUT_OF_MEMORY`, `WORKER_CRASHED`
   */
  async backward<Wrt extends string = never>(
    cotangents: Readonly<Record<string, Tensor>>,
    options: BackwardOptions<Wrt> = {},
  ): Promise<Record<Wrt, Tensor>> {
    const { layers, trained, recording, autograd, current } = this.#parts;
    if (current() !== autograd) throw tapeDropped();
    const { wrt = [], reluRule = 'standard', signal } = options;
    if (typeof cotangents !== 'object' || cotangents === null || cotangents instanceof Tensor) {
      throw new VGGNetError('INVALID_ARGUMENT', 'backward takes cotangents by layer, such as { logits: tensor }');
    }
    if (!Array.isArray(wrt)) {
      throw new VGGNetError('INVALID_ARGUMENT', `wrt must be a list of layer names, got ${typeof wrt}`);
    }
    if (!RELU_RULES.includes(reluRule)) {
      throw new VGGNetError('INVALID_ARGUMENT', `reluRule must be 'standard' or 'guided', got ${String(reluRule)}`);
    }
    const request = { cotangents: Object.keys(cotangents), wrt };
    const resolved = resolveRequest(layers, [...this.#recorded.keys()], request, trained);
    const values = new Map<string, Tensor>();
    for (const [layer, name] of resolved.cotangents) {
      values.set(layer, this.#checked(layer, name, cotangents[name]));
    }
    const names = [...new Set(resolved.wrt)];
    const work = recording.backward({ cotangents: values, wrt: names, reluRule, signal });
    const results = await abortable(work, signal);
    // Names of one layer get a tensor each.
    const own = resolved.wrt.map((layer, i) => {
      const result = results[names.indexOf(layer)] as Tensor;
      return resolved.wrt.indexOf(layer) === i ? result : new Tensor(result.data.slice(), result.shape);
    });
    return Object.fromEntries(wrt.map((name, i) => [name, own[i]])) as Record<Wrt, Tensor>;
  }

  /** Lets go of what was kept. May be called twice. */
  dispose(): void {
    this.#parts.recording.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #checked(layer: string, name: string, value: unknown): Tensor {
    if (!(value instanceof Tensor)) {
      const got = value === null ? 'null' : typeof value;
      throw new VGGNetError('INVALID_ARGUMENT', `The cotangent for '${name}' must be a Tensor, got ${got}`);
    }
    assertAttached(value);
    checkCotangent(name, value.shape, this.#recorded.get(layer) as readonly number[]);
    return value;
  }
}

/** The tapes and sums of gradients of a model that was made with `gradients`. */
export class Gradients {
  readonly #layers: readonly Layer[];
  /** The names of the parameters that get gradients. */
  readonly trained: ReadonlySet<string>;

  constructor(layers: readonly Layer[], trained: ReadonlySet<string>) {
    this.#layers = layers;
    this.trained = trained;
  }

  /** @param options.outputs the layer of each name */
  async record<Name extends string>(
    autograd: Autograd,
    input: Tensor,
    names: readonly Name[],
    options: RunOptions,
    current: () => Autograd,
  ): Promise<Tape<Name>> {
    const recording = await autograd.record(input, options);
    const parts = { layers: this.#layers, trained: this.trained, recording, autograd, current };
    return new Tape(names, options.outputs, parts);
  }

  /**
   * The sums of the gradients, by parameter.
   * @throws VGGNetError `NO_GRADIENTS` if no parameter gets any; `INVALID_ARGUMENT` for an unknown scheme
   */
  async read(
    autograd: Autograd,
    poolSize: number,
    { naming = 'torchvision' }: StateOptions,
  ): Promise<Map<string, Tensor>> {
    checkScheme(naming);
    if (this.trained.size === 0) {
      throw new VGGNetError(
        'NO_GRADIENTS',
        'No parameter of this model gets a gradient: gradients chose none of them in create()',
      );
    }
    const gradients = new Map<string, Tensor>();
    for (const { name, shape } of this.#layers.flatMap(parametersOf)) {
      if (!this.trained.has(name)) continue;
      const values = await autograd.readGradient(name);
      gradients.set(rename(name, naming), new Tensor(values, renamedShape(name, shape, naming, poolSize)));
    }
    return gradients;
  }
}
