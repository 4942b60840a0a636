import type { Conv2d } from '../program/layers.js';
import { type Floats, type Parameters, present, size4, type Value, zerosLike } from './value.js';

/**
 * x (N, C, H, W), weight (OC, C, 3, 3), bias (OC) → y (N, OC, H, W), with zeros around the image:
 * y[n, oc, i, j] = bias[oc] + Σ x[n, c, i + kh − 1, j + kw − 1] · weight[oc, c, kh, kw]
 */
export function conv2d(x: Value, { outChannels: OC }: Conv2d, { weight, bias }: Parameters): Value {
  const [N, C, H, W] = size4(x);
  const y = zerosLike(x, [N, OC, H, W]);
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

/**
 * dx[n, c, row, column] = Σ dy[n, oc, row − kh + 1, column − kw + 1] · weight[oc, c, kh, kw]: the same convolution, of dy,
 * with the weights flipped and their inputs and outputs exchanged.
 */
export function conv2dInputGradient(dy: Value, { inChannels: C, outChannels: OC }: Conv2d, weight: Floats): Value {
  const [N, , H, W] = size4(dy);
  const dx = zerosLike(dy, [N, C, H, W]);
  let out = 0;
  for (let n = 0; n < N; n++) {
    for (let c = 0; c < C; c++) {
      for (let row = 0; row < H; row++) {
        for (let column = 0; column < W; column++) {
          let sum = 0;
          for (let oc = 0; oc < OC; oc++) {
            for (let kh = 0; kh < 3; kh++) {
              for (let kw = 0; kw < 3; kw++) {
                const i = row - kh + 1;
                const j = column - kw + 1;
                if (i < 0 || i >= H || j < 0 || j >= W) continue;
                const value = dy.data[((n * OC + oc) * H + i) * W + j] as number;
                sum += value * (weight[((oc * C + c) * 3 + kh) * 3 + kw] as number);
              }
            }
          }
          dx.data[out++] = sum;
        }
      }
    }
  }
  return dx;
}

/** dweight[oc, c, kh, kw] = Σ over n, i, j of dy[n, oc, i, j] · x[n, c, i + kh − 1, j + kw − 1]; dbias[oc] = Σ dy[n, oc, i, j] */
export function conv2dParameterGradients(dy: Value, x: Value): { weight: Floats; bias: Floats } {
  const [N, C, H, W] = size4(x);
  const OC = dy.shape[1] as number;
  const weight = zerosLike(dy, [OC, C, 3, 3]).data;
  const bias = zerosLike(dy, [OC]).data;
  let out = 0;
  for (let oc = 0; oc < OC; oc++) {
    let total = 0;
    for (let n = 0; n < N; n++) {
      for (let i = 0; i < H * W; i++) total += dy.data[(n * OC + oc) * H * W + i] as number;
    }
    bias[oc] = total;
    for (let c = 0; c < C; c++) {
      for (let kh = 0; kh < 3; kh++) {
        for (let kw = 0; kw < 3; kw++) {
          let sum = 0;
          for (let n = 0; n < N; n++) {
            for (let i = 0; i < H; i++) {
              for (let j = 0; j < W; j++) {
                const row = i + kh - 1;
                const column = j + kw - 1;
                if (row < 0 || row >= H || column < 0 || column >= W) continue;
                const value = dy.data[((n * OC + oc) * H + i) * W + j] as number;
                sum += value * (x.data[((n * C + c) * H + row) * W + column] as number);
              }
            }
          }
          weight[out++] = sum;
        }
      }
    }
  }
  return { weight, bias };
}
