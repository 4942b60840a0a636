import { Tensor } from '../tensor.js';

/*
 * What the reference computes on: row-major values with a shape. A backend's are float32. The checks of gradients by
 * finite differences take float64, since a difference of two float32 sums has no digits left.
 */

export type Floats = Float32Array | Float64Array;

export interface Value<Data extends Floats = Floats> {
  readonly data: Data;
  readonly shape: readonly number[];
}

/** A layer's parameters by their last name: `weight`, `bias`, `running_mean`, `running_var`. */
export type Parameters = Readonly<Record<string, Floats>>;

/** Zeros of a shape, stored as `x` is. */
export function zerosLike(x: Value, shape: readonly number[] = x.shape): Value {
  const size = shape.reduce((product, length) => product * length, 1);
  return { data: x.data instanceof Float64Array ? new Float64Array(size) : new Float32Array(size), shape };
}

export function mapValues(x: Value, f: (value: number, index: number) => number): Value {
  const y = zerosLike(x);
  for (let i = 0; i < y.data.length; i++) y.data[i] = f(x.data[i] as number, i);
  return y;
}

/** The four sizes of an (N, C, H, W) value. */
export function size4({ shape }: Value): [N: number, C: number, H: number, W: number] {
  return shape as [number, number, number, number];
}

/** A parameter that compile has already found complete. */
export function present(values: Floats | undefined): Floats {
  return values as Floats;
}

/** A value as a tensor with data of its own. */
export function tensorOf({ data, shape }: Value): Tensor {
  return new Tensor(Float32Array.from(data), shape);
}
