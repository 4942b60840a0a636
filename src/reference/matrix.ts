import { Tensor } from '../tensor.js';

/* Operations on outputs of layers, for losses: Gram matrices, dot products and sums. */

/** x (N, C, H, W) → (N, C, C): G[n, c, d] = Σ x[n, c, i] · x[n, d, i], over the H · W places i. */
export function gram(x: Tensor): Tensor {
  const [N = 0, C = 0, H = 0, W = 0] = x.shape;
  const places = H * W;
  const g = Tensor.zeros([N, C, C]);
  let out = 0;
  for (let n = 0; n < N; n++) {
    for (let c = 0; c < C; c++) {
      for (let d = 0; d < C; d++) {
        let sum = 0;
        for (let i = 0; i < places; i++) {
          sum += (x.data[(n * C + c) * places + i] as number) * (x.data[(n * C + d) * places + i] as number);
        }
        g.data[out++] = sum;
      }
    }
  }
  return g;
}

/** dx[n, c, i] = Σ (dG[n, c, d] + dG[n, d, c]) · x[n, d, i] */
export function gramInputGradient(dg: Tensor, x: Tensor): Tensor {
  const [N = 0, C = 0, H = 0, W = 0] = x.shape;
  const places = H * W;
  const dx = Tensor.zeros(x.shape);
  let out = 0;
  for (let n = 0; n < N; n++) {
    for (let c = 0; c < C; c++) {
      for (let i = 0; i < places; i++) {
        let sum = 0;
        for (let d = 0; d < C; d++) {
          const both = (dg.data[(n * C + c) * C + d] as number) + (dg.data[(n * C + d) * C + c] as number);
          sum += both * (x.data[(n * C + d) * places + i] as number);
        }
        dx.data[out++] = sum;
      }
    }
  }
  return dx;
}

/** Σ a · b */
export function dot(a: Tensor, b: Tensor): number {
  let sum = 0;
  for (let i = 0; i < a.size; i++) sum += (a.data[i] as number) * (b.data[i] as number);
  return sum;
}

/** alpha · x + y */
export function axpy(alpha: number, x: Tensor, y: Tensor): Tensor {
  return new Tensor(
    x.data.map((value, i) => alpha * value + (y.data[i] as number)),
    x.shape,
  );
}
