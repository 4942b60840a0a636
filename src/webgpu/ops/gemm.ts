import type { BufferView, Dispatch } from '../kernel.js';
import { flag, fold, words } from './dispatch.js';

/** How a workgroup cuts the product: `bm` × `bn` values, `bk` deep, `wx` × `wy` threads of `tm` × `tn` values. */
export interface GemmTile {
  readonly bm: number;
  readonly bn: number;
  readonly constants: { readonly WX: number; readonly WY: number; readonly TM: number; readonly TN: number };
}

const tile = (WX: number, WY: number, TM: number, TN: number): GemmTile => ({
  bm: WY * TM,
  bn: WX * TN,
  constants: { WX, WY, TM, TN },
});

/** From the one that moves the least through memory to the one that fills a GPU with the least work. */
export const GEMM_TILES: readonly [GemmTile, GemmTile, GemmTile] = [
  tile(8, 16, 8, 8),
  tile(8, 8, 8, 8),
  tile(8, 8, 4, 4),
];
/** Workgroups that fill a large GPU. */
const FULL = 256;

/** The largest tile that still makes enough workgroups of an m × n product, `batch` times, and wastes little. */
export function gemmTile(m: number, n: number, batch: number): GemmTile {
  const fits = ({ bm, bn }: GemmTile): boolean => {
    const groups = Math.ceil(m / bm) * Math.ceil(n / bn);
    return groups * batch >= FULL && groups * bm * bn <= 1.5 * m * n;
  };
  return GEMM_TILES.find(fits) ?? GEMM_TILES[2];
}

/** One dispatch of shaders/gemm.wgsl; sizes along n and k, strides and pitches are in vectors of four values. */
export interface Gemm {
  readonly label: string;
  /** How the factors lie: 'conv' pixels × [K][N], 'plain' [M][K] × [K][N], 'rows' [M][K] × [N][K]. */
  readonly form: 'conv' | 'plain' | 'rows';
  readonly tile: GemmTile;
  /** Products of one dispatch: Winograd's points, or the parts of K. */
  readonly batch: number;
  readonly m: number;
  readonly n4: number;
  readonly k4: number;
  /** Length of a part of K, or 0 if each product has all of it. */
  readonly kStep: number;
  /** From one product of the batch to the next: a, b, y. */
  readonly strides: readonly [number, number, number];
  /** Rows of b that are there, in the form 'rows'. */
  readonly rows: number;
  readonly firstColumn: number;
  /** Columns of y that are there; those over, up to a multiple of 4, are made 0. */
  readonly columns: number;
  readonly yPitch: number;
  readonly f16: boolean;
  readonly bias: boolean;
  readonly scale: boolean;
  readonly relu: boolean;
  readonly pool: boolean;
  /** The image, in the form 'conv'; with `pool` m is four times the pooled pixels. */
  readonly image?: { readonly h: number; readonly w: number; readonly c4: number };
  readonly views: { a: BufferView; b: BufferView; bias: BufferView; scale: BufferView; y: BufferView };
}

const FORMS = { conv: 0, plain: 1, rows: 2 } as const;

export function gemm(g: Gemm): Dispatch {
  const { bm, bn, constants } = g.tile;
  const across = Math.ceil((g.n4 * 4) / bn);
  const groups = Math.ceil(g.m / bm) * across;
  const { h, w, c4 } = g.image ?? { h: 0, w: 0, c4: 1 };
  // The rows of weights in float16 are padded to 8 values.
  const bPitch = g.form === 'rows' ? (g.f16 ? Math.ceil(g.k4 / 2) * 2 : g.k4) : g.n4;
  return {
    label: g.label,
    pipeline: {
      shader: 'gemm',
      entryPoint: 'gemm',
      constants: {
        ...constants,
        FORM: FORMS[g.form],
        F16: flag(g.f16),
      },
    },
    bindings: [g.views.a, g.views.b, g.views.bias, g.views.scale, g.views.y],
    params: words([
      g.m,
      g.n4,
      g.k4,
      g.kStep,
      ...g.strides,
      bPitch,
      g.rows,
      g.firstColumn,
      g.yPitch,
      across,
      groups,
      h,
      w,
      c4,
      flag(g.scale),
      flag(g.bias),
      flag(g.relu),
      flag(g.pool),
      g.columns,
    ]),
    workgroups: fold(groups, g.batch),
  };
}
