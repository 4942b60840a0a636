import { numel } from '../../tensor.js';
import { type GradientPlace, gradientPlaces } from '../plan/gradient-bytes.js';
import { BYTES } from '../plan/layout.js';
import { inputStride } from '../plan/parameter-bytes.js';
import type { EngineParts } from './engine.js';
import { ConvStore, PlainStore } from './stores.js';

/** The gradients of the parameters in the engine's memory, laid out as the parameters are. */
export class Gradients {
  readonly #parts: EngineParts;
  readonly #places: ReadonlyMap<string, GradientPlace>;
  /** The names of the parameters that have one. */
  readonly trained: ReadonlySet<string>;

  constructor(parts: EngineParts, trained: ReadonlySet<string>) {
    this.#parts = parts;
    this.trained = trained;
    this.#places = gradientPlaces(parts.layers, trained);
  }

  /** The address of a parameter's gradient. */
  addressOf(name: string): number {
    return this.#parts.gradients + (this.#places.get(name) as GradientPlace).offset;
  }

  read(name: string): Float32Array {
    const { layer, index, shape } = this.#places.get(name) as GradientPlace;
    const { heap, parameters } = this.#parts;
    const out = new Float32Array(numel(shape));
    const address = this.addressOf(name);
    if (layer.op === 'conv2d' && shape.length > 1) {
      const place = { address, inChannels: layer.inChannels, inStride: inputStride(layer, index) };
      new ConvStore(parameters.packing, place).read(out);
    } else {
      new PlainStore(heap, address).read(out);
    }
    return out;
  }

  clear(): void {
    const { f32 } = this.#parts.heap;
    for (const [name, { bytes }] of this.#places) {
      const start = this.addressOf(name) / BYTES;
      f32.fill(0, start, start + bytes / BYTES);
    }
  }
}
