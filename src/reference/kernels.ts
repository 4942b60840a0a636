import { dropoutHash, dropoutScale, dropoutThreshold } from '../program/dropout.js';
import type { AdaptiveAvgPool2d, Conv2d, Dropout, Linear } from '../program/layers.js';
import { numel, Tensor } from '../tensor.js';

/*
 * One function an operation, written to be read: no fusing, no tiling, no special cases for speed.
 * Tensors are row-major (N, C, H, W) or (N, F) float32. Every sum is accumulated in float64 and rounded
 * to float32 once, when it is stored. No function changes its input.
 */

/** Float32 parameters of a layer, by their last name: `weight`, `bias`, `running_mean`, `running_var`. */
export type Parameters = Readonly<Record<string, Float32Array>>;

/**
 * x (N, C, H, W), weight (OC, C, 3, 3), bias (OC) → y (N, OC, H, W), with zeros around the image:
 * y[n, oc, i, j] = bias[oc] + Σ x[n, c, i + kh − 1, j + kw − 1] · weight[oc, c, kh, kw]
 */
export function conv2d(x: Tensor, { outChannels: OC }: Conv2d, { weight, bias }: Parameters): Tensor {
  const [N, C, H, W] = size4(x);
  const y = Tensor.zeros([N, OC, H, W]);
  const w = present(weight);
  const b = present(bias);
  let out = 0;
  for (let n = 0; n < N; n++) {
    for (let oc = 0; oc < OC; oc++) {
      for (let i = 0; i < H; i++) {
        for (let j = 0; j < W; j++) {
          let sum = b[oc] as number;
          for (let c = 0; c < C; c++) {
            for (let kh = 0; kh < 3; kh++) {
              for (let kw = 0; kw < 3; kw++) {
                const row = i + kh - 1;
                const column = j + kw - 1;
                if (row < 0 || row >= H || column < 0 || column >= W) continue;
                const value = x.data[((n * C + c) * H + row) * W + column] as number;
                sum += value * (w[((oc * C + c) * 3 + kh) * 3 + kw] as number);
              }
            }
          }
          y.data[out++] = sum;
        }
      }
    }
  }
  return y;
}

/** Max of each 2×2 window, stride 2, the odd last row or column left out. NaN in a window makes NaN. */
export function maxPool2d(x: Tensor): Tensor {
  const [N, C, H, W] = size4(x);
  const OH = Math.floor(H / 2);
  const OW = Math.floor(W / 2);
  const y = Tensor.zeros([N, C, OH, OW]);
  let out = 0;
  for (let plane = 0; plane < N * C; plane++) {
    for (let i = 0; i < OH; i++) {
      for (let j = 0; j < OW; j++) {
        let max = -Infinity;
        for (const row of [2 * i, 2 * i + 1]) {
          for (const column of [2 * j, 2 * j + 1]) {
            max = Math.max(max, x.data[(plane * H + row) * W + column] as number);
          }
        }
        y.data[out++] = max;
      }
    }
  }
  return y;
}

/**
 * (N, C, H, W) → (N, C, O, O). Cell i averages the rows from ⌊i·H/O⌋ up to, not including, ⌈(i+1)·H/O⌉,
 * and the columns alike, as torch.nn.AdaptiveAvgPool2d; cells overlap where O does not divide H.
 */
export function adaptiveAvgPool2d(x: Tensor, { outputSize: O }: AdaptiveAvgPool2d): Tensor {
  const [N, C, H, W] = size4(x);
  const y = Tensor.zeros([N, C, O, O]);
  const start = (cell: number, size: number): number => Math.floor((cell * size) / O);
  const end = (cell: number, size: number): number => Math.ceil(((cell + 1) * size) / O);
  let out = 0;
  for (let plane = 0; plane < N * C; plane++) {
    for (let i = 0; i < O; i++) {
      for (let j = 0; j < O; j++) {
        let sum = 0;
        let count = 0;
        for (let row = start(i, H); row < end(i, H); row++) {
          for (let column = start(j, W); column < end(j, W); column++) {
            sum += x.data[(plane * H + row) * W + column] as number;
            count++;
          }
        }
        y.data[out++] = sum / count;
      }
    }
  }
  return y;
}

/** x (N, K), weight (M, K), bias (M) → y (N, M): y[n, m] = bias[m] + Σ x[n, k] · weight[m, k] */
export function linear(x: Tensor, { inFeatures: K, outFeatures: M }: Linear, { weight, bias }: Parameters): Tensor {
  const N = x.shape[0] as number;
  const y = Tensor.zeros([N, M]);
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

/** Negative values become 0; NaN stays, as `Math.max` gives NaN for it. */
export function relu(x: Tensor): Tensor {
  return mapValues(x, (value) => Math.max(value, 0));
}

export function flatten(x: Tensor): Tensor {
  const N = x.shape[0] as number;
  return new Tensor(x.data, [N, numel(x.shape.slice(1))]);
}

/** See `src/dropout.ts` for the mask. `layer` is this layer's index in the program. */
export function dropout(x: Tensor, { p }: Dropout, seed: number, layer: number): Tensor {
  const threshold = dropoutThreshold(p);
  const scale = dropoutScale(p);
  return mapValues(x, (value, i) => value * (dropoutHash(seed, layer, i) < threshold ? 0 : scale));
}

/** y[n, f] = exp(x[n, f] − max x[n]) / Σ exp(x[n, g] − max x[n]); a NaN or +∞ makes its whole row NaN. */
export function softmax(x: Tensor): Tensor {
  const [N = 0, F = 0] = x.shape;
  const y = Tensor.zeros([N, F]);
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

/** The four sizes of an (N, C, H, W) tensor. */
export function size4(x: Tensor): [N: number, C: number, H: number, W: number] {
  return x.shape as [number, number, number, number];
}

/** A parameter that compile has already found complete. */
export function present(values: Float32Array | undefined): Float32Array {
  return values as Float32Array;
}

function mapValues(x: Tensor, f: (value: number, index: number) => number): Tensor {
  return new Tensor(x.data.map(f), x.shape);
}
