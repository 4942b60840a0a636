import type { Linear } from '../program/layers.js';
import { type Floats, type Parameters, present, type Value, zerosLike } from './value.js';

/** x (N, K), weight (M, K), bias (M) → y (N, M): y[n, m] = bias[m] + Σ x[n, k] · weight[m, k] */
export function linear(x: Value, { inFeatures: K, outFeatures: M }: Linear, { weight, bias }: Parameters): Value {
  const N = x.shape[0] as number;
  const y = zerosLike(x, [N, M]);
  const w = present(weight);
  const b = present(bias);
  for (let n = 0; n < N; n++) {
    for (let m = 0; m < M; m++) {
      let sum = b[m] as number;
      for (let k = 0; k < K; k++) sum += (x.data[n * K + k] as number) * (w[m * K + k] as number);
      y.data[n * M + m] = sum;
    }
  }
  return y;
}

/** dx[n, k] = Σ dy[n, m] · weight[m, k] */
export function linearInputGradient(dy: Value, { inFeatures: K, outFeatures: M }: Linear, weight: Floats): Value {
  const N = dy.shape[0] as number;
  const dx = zerosLike(dy, [N, K]);
  for (let n = 0; n < N; n++) {
    for (let k = 0; k < K; k++) {
      let sum = 0;
      for (let m = 0; m < M; m++) sum += (dy.data[n * M + m] as number) * (weight[m * K + k] as number);
      dx.data[n * K + k] = sum;
    }
  }
  return dx;
}

/** dweight[m, k] = Σ dy[n, m] · x[n, k]; dbias[m] = Σ dy[n, m] */
export function linearParameterGradients(dy: Value, x: Value): { weight: Floats; bias: Floats } {
  const [N = 0, M = 0] = dy.shape;
  const K = x.shape[1] as number;
  const weight = zerosLike(dy, [M, K]).data;
  const bias = zerosLike(dy, [M]).data;
  for (let m = 0; m < M; m++) {
    let total = 0;
    for (let n = 0; n < N; n++) total += dy.data[n * M + m] as number;
    bias[m] = total;
    for (let k = 0; k < K; k++) {
      let sum = 0;
      for (let n = 0; n < N; n++) sum += (dy.data[n * M + m] as number) * (x.data[n * K + k] as number);
      weight[m * K + k] = sum;
    }
  }
  return { weight, bias };
}
