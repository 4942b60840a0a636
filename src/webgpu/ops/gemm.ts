import type { BufferView, Dispatch } from '../kernel.js';
import { flag, foldWorkgroups, uniformWords } from './dispatch.js';

/** The tile of a workgroup: `bm` × `bn` values, WX × WY threads of TM × TN values. */
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

/** From the tile with the least memory traffic to the one that fills a GPU with the least work. */
export const GEMM_TILES: readonly [GemmTile, GemmTile, GemmTile] = [
  tile(8, 16, 8, 8),
  tile(8, 8, 8, 8),
  tile(8, 8, 4, 4),
];
/** Workgroups that fill a large GPU. */
const FULL_GPU = 256;

/** The largest tile that still makes enough workgroups of an m × n product, `batch` times, and wastes little. */
export function gemmTile(m: number, n: number, batch: number): GemmTile {
  const fits = ({ bm, bn }: GemmTile): boolean => {
    const groups = Math.ceil(m / bm) * Math.ceil(n / bn);
    return groups * batch >= FULL_GPU && groups * bm * bn <= 1.5 * m * n;
  };
  return GEMM_TILES.find(fits) ?? GEMM_TILES[2];
}

/** `Params` of shaders/gemm.wgsl. */
export const GEMM_PARAMS =
  'm n4 k4 kStep aStride bStride yStride bPitch rows firstColumn yPitch across groups h w c4 scale bias relu pool columns';

/** One dispatch of shaders/gemm.wgsl. Sizes along n and k, strides and pitches count vectors of four values. */
export interface Gemm {
  readonly label: string;
  /** How the factors lie: 'conv2d' pixels × [K][N], 'plain' [M][K] × [K][N], 'linear' [M][K] × [N][K]. */
  readonly kind: 'conv2d' | 'plain' | 'linear';
  readonly tile: GemmTile;
  /** Products of one dispatch: Winograd's points, or the parts of K. */
  readonly batch: number;
  /** B is float16. */
  readonly f16: boolean;
  readonly m: number;
  readonly n4: number;
  readonly k4: number;
  /** Length of a part of K. Default 0: each product takes all of K. */
  readonly kStep?: number;
  /** From one product of the batch to the next; default 0. */
  readonly aStride?: number;
  readonly bStride?: number;
  readonly yStride?: number;
  /** 'linear': rows of B without the padding. */
  readonly rows?: number;
  /** Default 0. */
  readonly firstColumn?: number;
  /** Columns of y without the padding; those of the padding become 0. */
  readonly columns: number;
  readonly yPitch: number;
  /** What the output goes through, in this order; default none. */
  readonly scale?: boolean;
  readonly bias?: boolean;
  readonly relu?: boolean;
  readonly pool?: boolean;
  /** 'conv2d': the image. With `pool`, m is four times the pooled pixels. */
  readonly h?: number;
  readonly w?: number;
  readonly c4?: number;
  readonly views: { a: BufferView; b: BufferView; bias: BufferView; scale: BufferView; y: BufferView };
}

const KINDS = { conv2d: 0, plain: 1, linear: 2 } as const;

export function gemm(g: Gemm): Dispatch {
  const { bm, bn, constants } = g.tile;
  const across = Math.ceil((g.n4 * 4) / bn);
  const groups = Math.ceil(g.m / bm) * across;
  // Rows of float16 weights are padded to 8 values.
  const bPitch = g.kind === 'linear' ? (g.f16 ? Math.ceil(g.k4 / 2) * 2 : g.k4) : g.n4;
  return {
    label: g.label,
    pipeline: {
      shader: 'gemm',
      entryPoint: 'gemm',
      constants: { ...constants, KIND: KINDS[g.kind], F16: flag(g.f16) },
    },
    bindings: [g.views.a, g.views.b, g.views.bias, g.views.scale, g.views.y],
    params: uniformWords(GEMM_PARAMS, { ...g, bPitch, across, groups }),
    workgroups: foldWorkgroups(groups, g.batch),
  };
}
