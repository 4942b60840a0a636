import { type Value, zerosLike } from './value.js';

/** y[n, f] = exp(x[n, f] − max x[n]) / Σ exp(x[n, g] − max x[n]); a NaN or +∞ makes its whole row NaN. */
export function softmax(x: Value): Value {
  const [N = 0, F = 0] = x.shape;
  const y = zerosLike(x);
  for (let n = 0; n < N; n++) {
    const row = x.data.subarray(n * F, (n + 1) * F);
    let max = -Infinity;
    for (const value of row) max = Math.max(max, value);
    let sum = 0;
    for (const value of row) sum += Math.exp(value - max);
    for (let f = 0; f < F; f++) y.data[n * F + f] = Math.exp((row[f] as number) - max) / sum;
  }
  return y;
}

/** dx[n, f] = y[n, f] · (dy[n, f] − Σ dy[n, g] · y[n, g]) */
export function softmaxInputGradient(dy: Value, y: Value): Value {
  const [N = 0, F = 0] = y.shape;
  const dx = zerosLike(dy);
  for (let n = 0; n < N; n++) {
    let sum = 0;
    for (let i = n * F; i < (n + 1) * F; i++) sum += (dy.data[i] as number) * (y.data[i] as number);
    for (let i = n * F; i < (n + 1) * F; i++) dx.data[i] = (y.data[i] as number) * ((dy.data[i] as number) - sum);
  }
  return dx;
}
