import type { ParameterChunk, ParameterStream } from '../../backend.js';
import { VGGNetError } from '../../errors.js';
import { isWeighted, type Layer } from '../../program/layers.js';
import type { Precision } from '../../program/precision.js';
import { toFloat16, toFloat32 } from '../dtype.js';
import { groupsOf, roundTo, scaleFor } from './math.js';

/** Values that are given at once, of whole rows. */
const MOST = 262_144;

/**
 * The same parameters with the weights of some layers rounded to their precision, still as float32.
 * @throws VGGNetError `INVALID_ARGUMENT`, while streaming, for a weight that is not finite or too large
 */
export async function* roundedStream(stream: ParameterStream, layers: readonly Layer[]): ParameterStream {
  const rows = new Map<string, Rows>();
  for (const layer of layers) {
    if (!isWeighted(layer)) continue;
    const { precision = 'fp32' } = layer;
    const columns = layer.op === 'conv2d' ? 9 * layer.inChannels : layer.inFeatures;
    if (precision !== 'fp32') rows.set(`${layer.path}.weight`, new Rows(layer.name, precision, columns));
  }
  for await (const chunk of stream) {
    const own = rows.get(chunk.name);
    if (own) yield* own.round(chunk);
    else yield chunk;
  }
}

/** Collects a weight's values until a row is whole: the inputs of one output, which may share a scale. */
class Rows {
  readonly #layer: string;
  readonly #precision: Exclude<Precision, 'fp32'>;
  readonly #columns: number;
  #buffer = new Float32Array(0);
  #held = 0;

  constructor(layer: string, precision: Exclude<Precision, 'fp32'>, columns: number) {
    this.#layer = layer;
    this.#precision = precision;
    this.#columns = columns;
  }

  *round({ name, offset, data }: ParameterChunk): Generator<ParameterChunk> {
    const columns = this.#columns;
    if (this.#buffer.length === 0) this.#buffer = new Float32Array(Math.max(1, Math.floor(MOST / columns)) * columns);
    const buffer = this.#buffer;
    for (let from = 0; from < data.length; ) {
      const part = data.subarray(from, from + buffer.length - this.#held);
      buffer.set(part, this.#held);
      const first = offset + from - this.#held;
      this.#held += part.length;
      from += part.length;
      const whole = Math.floor(this.#held / columns) * columns;
      if (whole === 0) continue;
      yield { name, offset: first, data: this.#rounded(buffer.subarray(0, whole)) };
      buffer.copyWithin(0, whole, this.#held);
      this.#held -= whole;
    }
  }

  #rounded(values: Float32Array<ArrayBuffer>): Float32Array {
    const precision = this.#precision;
    if (precision === 'fp16') return toFloat32(new Uint8Array(toFloat16(values).buffer), 'F16');
    try {
      for (let at = 0; at < values.length; at += this.#columns) {
        for (const group of groupsOf(values.subarray(at, at + this.#columns), precision)) {
          roundTo(group, scaleFor(group, precision));
        }
      }
    } catch (error) {
      if (!(error instanceof VGGNetError)) throw error;
      throw new VGGNetError(error.code, `${this.#layer}: ${error.message}`, { cause: error });
    }
    return values;
  }
}
